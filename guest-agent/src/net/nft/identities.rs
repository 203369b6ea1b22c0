//! Who is who on a bridge: the rules that keep a container from being another.

use netlink_bindings::nftables::{MetaKeys, PayloadBase};

use super::LINKS;
use super::expression::{Expression, Register};

/// Which link has which station.
pub(super) const STATIONS: &str = "stations";
/// Which link has which station with which address.
pub(super) const OWNERS: &str = "owners";
/// The same by IPv6.
pub(super) const OWNERS_BY_IPV6: &str = "owners6";

/// Where the source is in an IPv4 header (RFC 791).
pub(super) const SOURCE: u32 = 12;
/// The same in an IPv6 header (RFC 8200).
pub(super) const IPV6_SOURCE: u32 = 8;

/// EtherTypes.
const ETHER_IPV4: u16 = 0x0800;
const ETHER_ARP: u16 = 0x0806;
const ETHER_IPV6: u16 = 0x86dd;

/// Of Neighbor Discovery (RFC 4861): what only a router says, and what says who has an
/// address, with where in it the address is.
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const TARGET: u32 = 8;

/// Where a frame says that it comes from.
const SENDER: u32 = 6;

const LINK: Register = Register(0);
const STATION: Register = Register(4);
const ADDRESS: Register = Register(6);
/// For whatever else is looked at.
const OTHER: Register = Register(12);

/// Lets a container send what comes from itself only: from its Ethernet address and
/// its addresses, and ARP or Neighbor Discovery that says so. Everything else ends.
pub(super) fn rules() -> Vec<Vec<Expression>> {
    use Expression as E;
    // Of an ARP packet, 8 is the station and 14 the address that it speaks for (RFC 826).
    let claimed = [
        from(),
        E::Payload(PayloadBase::NetworkHeader, 8, 6, STATION),
        E::Payload(PayloadBase::NetworkHeader, 14, 4, ADDRESS),
        E::In(OWNERS, LINK),
        E::Accept,
    ];
    let rest = vec![
        [&ether(ETHER_IPV4)[..], &owned(OWNERS, SOURCE, 4)].concat(),
        [&ether(ETHER_ARP)[..], &claimed].concat(),
        neighbor(ROUTER_ADVERTISEMENT, &[E::Drop]),
        neighbor(REDIRECT, &[E::Drop]),
        neighbor(
            NEIGHBOR_ADVERTISEMENT,
            &[
                from(),
                sender(),
                E::Payload(PayloadBase::TransportHeader, TARGET, 16, ADDRESS),
                E::NotIn(OWNERS_BY_IPV6, LINK),
                E::Drop,
            ],
        ),
        [
            &ether(ETHER_IPV6)[..],
            &owned(OWNERS_BY_IPV6, IPV6_SOURCE, 16),
        ]
        .concat(),
        vec![E::Drop],
    ];
    let first = vec![
        vec![from(), E::IsNot(LINK, LINKS.to_vec()), E::Accept],
        vec![from(), sender(), E::NotIn(STATIONS, LINK), E::Drop],
    ];
    [first, rest].concat()
}

fn from() -> Expression {
    Expression::Meta(MetaKeys::Iifname, LINK)
}

fn sender() -> Expression {
    Expression::Payload(PayloadBase::LinkLayerHeader, SENDER, 6, STATION)
}

/// Goes on for one kind of frame.
fn ether(kind: u16) -> [Expression; 2] {
    [
        Expression::Meta(MetaKeys::Protocol, OTHER),
        Expression::Is(OTHER, kind.to_be_bytes().to_vec()),
    ]
}

/// Accepts packets from an address that is the sender's.
fn owned(owners: &'static str, source: u32, length: u32) -> [Expression; 5] {
    [
        from(),
        sender(),
        Expression::Payload(PayloadBase::NetworkHeader, source, length, ADDRESS),
        Expression::In(owners, LINK),
        Expression::Accept,
    ]
}

/// Goes on with `then` for one kind of message of Neighbor Discovery.
fn neighbor(kind: u8, then: &[Expression]) -> Vec<Expression> {
    use Expression as E;
    let protocol = nix::libc::IPPROTO_ICMPV6 as u8;
    let of_kind = [
        E::Meta(MetaKeys::L4Proto, OTHER),
        E::Is(OTHER, vec![protocol]),
        E::Payload(PayloadBase::TransportHeader, 0, 1, OTHER),
        E::Is(OTHER, vec![kind]),
    ];
    [&ether(ETHER_IPV6)[..], &of_kind, then].concat()
}
