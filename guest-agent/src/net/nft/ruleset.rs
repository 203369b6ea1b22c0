//! The rules of isolazi's tables. They are the same whatever containers there are:
//! what changes is in sets and maps.
//!
//! ```text
//! table ip isolazi                                  table bridge isolazi
//!   prerouting, output   published ports → DNAT       prerouting  who is who
//!   postrouting          masquerade, hairpin
//!   forward              networks apart             table ip6 isolazi, where a network
//!                                                   has IPv6: postrouting, forward
//! ```
//!
//! Everything is in tables of our own, so nothing of others' rules is changed. It
//! also means that what others drop stays dropped: a packet has to pass all tables.

use netlink_bindings::nftables::{CtKeys, MetaKeys, PayloadBase, SetFlags};

use super::expression::{Expression, NAME_BYTES, Register};
use super::identities::{self, IPV6_SOURCE, OWNERS, OWNERS_BY_IPV6, SOURCE, STATIONS};

/// What tells this program's rules from those of another version: to be changed with
/// the rules, so that they are laid out anew where older ones are.
pub(super) const MARK: &str = "isolazi rules, version 2";

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Family {
    /// IPv4.
    Ip = nix::libc::NFPROTO_IPV4 as u8,
    /// IPv6.
    Ip6 = nix::libc::NFPROTO_IPV6 as u8,
    /// Frames on bridges.
    Bridge = nix::libc::NFPROTO_BRIDGE as u8,
}

/// A set, or a map.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    /// For whoever lists the rules; the kernel does not mind.
    pub(super) key_type: u32,
    pub(super) key_length: u32,
    /// Kind and length of what a map maps to.
    pub(super) data: Option<(u32, u32)>,
    /// Its members are ranges.
    pub(super) ranges: bool,
}

impl Set {
    pub(super) fn flags(&self) -> u32 {
        let map = self.data.map_or(0, |_| SetFlags::Map as u32);
        let ranges = if self.ranges {
            SetFlags::Interval as u32
        } else {
            0
        };
        map | ranges
    }
}

/// A chain that the kernel sends packets through.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: Vec<Vec<Expression>>,
}

/// Ports published on all addresses: protocol and port to address and port.
pub(super) const PORTS: &str = "ports";
/// Ports published on one address: address, protocol and port to address and port.
pub(super) const PORTS_AT: &str = "ports_at";
/// The bridges, by name.
pub(super) const BRIDGES: &str = "bridges";
/// Pairs of the same bridge, so that a packet that stays on one can be told.
pub(super) const SAME: &str = "same";
/// The bridges of networks without a way out.
pub(super) const INTERNAL: &str = "internal";
/// Addresses of networks that lead outside.
pub(super) const SUBNETS: &str = "subnets";

/// Codes of nft(8) for types of sets, six bits each in a concatenation.
mod types {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const ETHER: u32 = 9;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const NAME: u32 = 41;

    pub(super) const fn concatenated(types: &[u32]) -> u32 {
        let (mut all, mut at) = (0, 0);
        while at < types.len() {
            all = all << 6 | types[at];
            at += 1;
        }
        all
    }
}

/// The sets and maps of a family.
pub(super) fn sets(family: Family) -> Vec<Set> {
    use types::{ETHER, IPV4, IPV6, NAME, PROTOCOL, SERVICE, concatenated};
    let set = |name, types: &[u32], key_length| Set {
        name,
        key_type: concatenated(types),
        key_length,
        data: None,
        ranges: false,
    };
    let apart = |address, length| {
        [
            set(BRIDGES, &[NAME], 16),
            set(SAME, &[NAME, NAME], 32),
            set(INTERNAL, &[NAME], 16),
            Set {
                ranges: true,
                ..set(SUBNETS, &[address], length)
            },
        ]
    };
    let target = Some((concatenated(&[IPV4, SERVICE]), 8));
    match family {
        Family::Ip => {
            let ports = Set {
                data: target,
                ..set(PORTS, &[PROTOCOL, SERVICE], 8)
            };
            let ports_at = Set {
                data: target,
                ..set(PORTS_AT, &[IPV4, PROTOCOL, SERVICE], 12)
            };
            [ports, ports_at]
                .into_iter()
                .chain(apart(IPV4, 4))
                .collect()
        }
        Family::Ip6 => apart(IPV6, 16).into(),
        Family::Bridge => vec![
            set(STATIONS, &[NAME, ETHER], 24),
            set(OWNERS, &[NAME, ETHER, IPV4], 28),
            set(OWNERS_BY_IPV6, &[NAME, ETHER, IPV6], 40),
        ],
    }
}

/// The chains of a family.
pub(super) fn chains(family: Family) -> Vec<Chain> {
    match family {
        Family::Ip => vec![
            Chain {
                name: "prerouting",
                kind: "nat",
                hook: nix::libc::NF_INET_PRE_ROUTING as u32,
                priority: nix::libc::NF_IP_PRI_NAT_DST,
                rules: published(&[]),
            },
            Chain {
                name: "output",
                kind: "nat",
                hook: nix::libc::NF_INET_LOCAL_OUT as u32,
                priority: nix::libc::NF_IP_PRI_NAT_DST,
                rules: published(&NOT_TO_LOOPBACK),
            },
            postrouting(outward()),
            forward(),
        ],
        Family::Ip6 => vec![postrouting(outward_by_ipv6()), forward()],
        Family::Bridge => vec![Chain {
            name: "prerouting",
            kind: "filter",
            hook: PRE_BRIDGE,
            priority: FILTER_BRIDGED,
            rules: identities::rules(),
        }],
    }
}

fn postrouting(rules: Vec<Vec<Expression>>) -> Chain {
    Chain {
        name: "postrouting",
        kind: "nat",
        hook: nix::libc::NF_INET_POST_ROUTING as u32,
        priority: nix::libc::NF_IP_PRI_NAT_SRC,
        rules,
    }
}

fn forward() -> Chain {
    Chain {
        name: "forward",
        kind: "filter",
        hook: nix::libc::NF_INET_FORWARD as u32,
        priority: nix::libc::NF_IP_PRI_FILTER,
        rules: apart(),
    }
}

/// What a container's own network namespace has: it sends elsewhere what is for an
/// address and port of [`PORTS_AT`].
pub(super) fn redirections() -> Chain {
    Chain {
        name: "output",
        kind: "nat",
        hook: nix::libc::NF_INET_LOCAL_OUT as u32,
        priority: nix::libc::NF_IP_PRI_NAT_DST,
        rules: vec![at_one().into()],
    }
}

/// `NF_BR_PRE_ROUTING` and `NF_BR_PRI_FILTER_BRIDGED` (linux/netfilter_bridge.h).
const PRE_BRIDGE: u32 = 0;
const FILTER_BRIDGED: i32 = -200;

/// Offset in an IPv4 header (RFC 791).
const DESTINATION: u32 = 16;
/// Offset of the destination port, in TCP as in UDP.
const TO_PORT: u32 = 2;
/// `RTN_LOCAL`: one of the machine's own addresses.
const LOCAL: u32 = nix::libc::RTN_LOCAL as u32;
/// `IPS_DST_NAT` (linux/netfilter/nf_conntrack_common.h).
const REDIRECTED: u32 = 1 << 5;
/// The states of a connection that is there already, or belongs to one.
const ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;

/// Steps that go on for what is not for 127.0.0.0/8. What is comes to a relay: the
/// kernel does not let packets with such addresses out of the machine.
static NOT_TO_LOOPBACK: std::sync::LazyLock<Vec<Expression>> = std::sync::LazyLock::new(|| {
    let first = Register(0);
    vec![
        Expression::Payload(PayloadBase::NetworkHeader, DESTINATION, 1, first),
        Expression::IsNot(first, vec![127]),
    ]
});

/// Where a redirection leads: the address is in the first, the port in the second.
const TO: (Register, Register) = (Register(8), Register(9));

/// Redirects what is for one address.
fn at_one() -> [Expression; 5] {
    use Expression as E;
    [
        E::Payload(PayloadBase::NetworkHeader, DESTINATION, 4, Register(0)),
        E::Meta(MetaKeys::L4Proto, Register(1)),
        E::Payload(PayloadBase::TransportHeader, TO_PORT, 2, Register(2)),
        E::Map(PORTS_AT, Register(0), TO.0),
        E::DestinationNat(TO.0, TO.1),
    ]
}

/// Sends what is for a published port to its container.
fn published(condition: &[Expression]) -> Vec<Vec<Expression>> {
    use Expression as E;
    let to_this_machine = || {
        let mut steps = condition.to_vec();
        steps.push(E::DestinationKind(Register(0)));
        steps.push(E::Is(Register(0), LOCAL.to_ne_bytes().to_vec()));
        steps
    };
    let at_all = [
        E::Meta(MetaKeys::L4Proto, Register(0)),
        E::Payload(PayloadBase::TransportHeader, TO_PORT, 2, Register(1)),
        E::Map(PORTS, Register(0), TO.0),
        E::DestinationNat(TO.0, TO.1),
    ];
    vec![
        [to_this_machine(), at_one().to_vec()].concat(),
        [to_this_machine(), at_all.to_vec()].concat(),
    ]
}

/// Has containers be the machine itself to everybody outside, and to containers that
/// they reach through a published port: those would answer directly, and in vain.
fn outward() -> Vec<Vec<Expression>> {
    use Expression as E;
    let from_a_container = [
        E::Payload(PayloadBase::NetworkHeader, SOURCE, 4, Register(0)),
        E::In(SUBNETS, Register(0)),
        E::Meta(MetaKeys::Oifname, Register(0)),
    ];
    vec![
        [
            &from_a_container[..],
            &[E::NotIn(BRIDGES, Register(0)), E::Masquerade],
        ]
        .concat(),
        [
            &from_a_container[..],
            &[E::In(BRIDGES, Register(0))],
            &redirected(),
            &[E::Masquerade],
        ]
        .concat(),
    ]
}

/// The same by IPv6, where the machine passes it on at all.
fn outward_by_ipv6() -> Vec<Vec<Expression>> {
    use Expression as E;
    vec![vec![
        E::Payload(PayloadBase::NetworkHeader, IPV6_SOURCE, 16, Register(0)),
        E::In(SUBNETS, Register(0)),
        E::Meta(MetaKeys::Oifname, Register(0)),
        E::NotIn(BRIDGES, Register(0)),
        E::Masquerade,
    ]]
}

/// Goes on for connections to a published port.
fn redirected() -> [Expression; 3] {
    let status = Register(0);
    [
        Expression::Connection(CtKeys::Status, status),
        Expression::Mask(status, REDIRECTED.to_ne_bytes().to_vec()),
        Expression::IsNot(status, vec![0; 4]),
    ]
}

/// Keeps networks apart from each other, and from whoever is outside: into a network
/// goes what stays in it, what is answered, and what is published; out of one without a
/// way out goes nothing.
fn apart() -> Vec<Vec<Expression>> {
    use Expression as E;
    let accept = |steps: &[E]| [steps, &[E::Accept]].concat();
    vec![
        accept(&[
            E::Connection(CtKeys::State, Register(0)),
            E::Mask(Register(0), ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
            E::IsNot(Register(0), vec![0; 4]),
        ]),
        accept(&[
            E::Meta(MetaKeys::Iifname, Register(0)),
            E::Meta(MetaKeys::Oifname, Register(4)),
            E::In(SAME, Register(0)),
        ]),
        vec![
            E::Meta(MetaKeys::Iifname, Register(0)),
            E::In(INTERNAL, Register(0)),
            E::Drop,
        ],
        accept(&redirected()),
        vec![
            E::Meta(MetaKeys::Oifname, Register(0)),
            E::In(BRIDGES, Register(0)),
            E::Drop,
        ],
    ]
}

/// A link's name as it is in a set, or in a register.
pub(super) fn name(text: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}
