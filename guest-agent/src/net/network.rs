//! A network that containers join.

use std::net::Ipv4Addr;

use isolazi_protocol::DEFAULT_NETWORK;

use super::subnet::Subnet;

/// A bridge with addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// The user's name for it.
    pub(crate) name: String,
    /// The link that it is on the machine.
    pub(crate) bridge: String,
    /// Its addresses.
    pub(crate) subnet: Subnet,
    /// The one of them that is the machine's.
    pub(crate) gateway: Ipv4Addr,
}

impl Network {
    /// The one that containers join where nobody says.
    pub(crate) fn default_bridge() -> Self {
        const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
        const SUBNET: Subnet = match Subnet::of(GATEWAY, 24) {
            Some(subnet) => subnet,
            None => panic!("the default subnet has room"),
        };
        Self {
            name: DEFAULT_NETWORK.to_owned(),
            bridge: "isolazi0".to_owned(),
            subnet: SUBNET,
            gateway: GATEWAY,
        }
    }

    /// Whether a container may have this address.
    pub(super) fn may_give(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(address)
            && address != self.gateway
            && address != self.subnet.base()
            && address != self.subnet.broadcast()
    }

    /// The addresses that containers may have, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.subnet
            .hosts()
            .filter(|&address| address != self.gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_network_has_room_for_253() {
        let network = Network::default_bridge();
        let addresses: Vec<Ipv4Addr> = network.addresses().collect();
        assert_eq!(addresses.len(), 253);
        assert_eq!(addresses[0], Ipv4Addr::new(172, 20, 0, 2));
        assert!(addresses.iter().all(|&address| network.may_give(address)));
        for taken in [0, 1, 255] {
            assert!(!network.may_give(Ipv4Addr::new(172, 20, 0, taken)));
        }
        assert!(!network.may_give(Ipv4Addr::new(172, 20, 1, 2)));
    }
}
