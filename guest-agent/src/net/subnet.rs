//! Addresses of a network, and what is made from them.

use std::fmt;
use std::net::Ipv4Addr;

use isolazi_protocol::MacAddress;

/// What names of the machine's ends of cables start with.
pub(super) const LINK_PREFIX: &str = "izv-";

/// A range of IPv4 addresses: `172.20.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The range that `address` lies in; `None` where it would have room for less
    /// than a gateway and a container.
    pub(crate) const fn of(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix == 0 || prefix > 30 {
            return None;
        }
        let base = address.to_bits() & (u32::MAX << (32 - prefix));
        Some(Self { base, prefix })
    }

    /// So many bits of an address are the network's.
    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its first address, which stands for the range itself.
    pub(crate) fn base(self) -> Ipv4Addr {
        self.base.into()
    }

    /// Where its last address, that of everybody, is.
    pub(crate) fn broadcast(self) -> Ipv4Addr {
        (self.base | (u32::MAX >> self.prefix)).into()
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        Self::of(address, self.prefix) == Some(self)
    }

    /// Its addresses for single stations, in order.
    pub(crate) fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.base + 1..self.broadcast().to_bits()).map(Ipv4Addr::from)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

/// The Ethernet address of whoever has `address`: locally administered, and the
/// same whenever the address is given again, so that no neighbour is confused.
pub(super) fn mac_of(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x02, 0x42, a, b, c, d])
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
    fn a_subnet_knows_its_own() {
        let subnet = Subnet::of(ADDRESS, 24).unwrap();
        assert_eq!(subnet.to_string(), "172.20.0.0/24");
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(172, 20, 0, 255));
        assert!(subnet.contains(ADDRESS));
        assert!(!subnet.contains(Ipv4Addr::new(172, 20, 1, 7)));
        assert_eq!(subnet.hosts().count(), 254);
        assert_eq!(subnet.hosts().next(), Some(Ipv4Addr::new(172, 20, 0, 1)));
        assert_eq!(subnet.hosts().last(), Some(Ipv4Addr::new(172, 20, 0, 254)));
    }

    #[test]
    fn a_subnet_has_room_for_two() {
        assert!(Subnet::of(ADDRESS, 31).is_none());
        assert!(Subnet::of(ADDRESS, 0).is_none());
        assert_eq!(Subnet::of(ADDRESS, 30).unwrap().hosts().count(), 2);
        let highest = Subnet::of(Ipv4Addr::BROADCAST, 30).unwrap();
        assert_eq!(highest.hosts().count(), 2);
    }

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
        assert_eq!(mac_of(ADDRESS).to_string(), "02:42:ac:14:00:07");
    }
}
