//! What is made from a container's address: its other addresses, and its cable's name.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use isolazi_protocol::MacAddress;

/// What names of the machine's ends of cables start with.
pub(super) const LINK_PREFIX: &str = "izv-";

/// The Ethernet address of whoever has `address`: locally administered, and the
/// same whenever the address is given again, so that no neighbour is confused.
pub(super) fn mac_of(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x02, 0x42, a, b, c, d])
}

/// The IPv6 address of whoever has `address`, which fills the last 32 bits: what is
/// unique by IPv4 is so by IPv6.
pub(super) fn ipv6_of(range: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    (range.network().to_bits() | u128::from(address.to_bits())).into()
}

/// The address that an interface gives itself (RFC 4291, appendix A).
pub(super) fn link_local_of(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

/// The machine's end of the cable of the container at `address`.
pub(super) fn link_of(address: Ipv4Addr) -> String {
    format!("{LINK_PREFIX}{:08x}", address.to_bits())
}

/// The address of the container at the other end of the link `name`.
pub(super) fn address_of(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix(LINK_PREFIX)?;
    let bits = u32::from_str_radix(digits, 16).ok()?;
    (link_of(bits.into()) == name).then(|| bits.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 7);

    #[test]
    fn a_link_bears_the_address() {
        assert_eq!(link_of(ADDRESS), "izv-ac140007");
        assert_eq!(address_of("izv-ac140007"), Some(ADDRESS));
        for other in ["izv-", "izv-AC140007", "izv-7", "izv-+c140007", "eth0"] {
            assert_eq!(address_of(other), None, "{other}");
        }
        // Linux has no longer names (IFNAMSIZ).
        assert!(link_of(Ipv4Addr::BROADCAST).len() < 16);
    }

    #[test]
    fn stations_have_addresses_of_their_own() {
        let mac = mac_of(ADDRESS);
        assert_eq!(mac.to_string(), "02:42:ac:14:00:07");
        assert_eq!(link_local_of(mac).to_string(), "fe80::42:acff:fe14:7");
        let range = "fd00:1:2::/64".parse().unwrap();
        assert_eq!(ipv6_of(range, ADDRESS).to_string(), "fd00:1:2::ac14:7");
    }
}
