//! A network that containers join.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use isolazi_protocol::{
    ContainerId, DEFAULT_NETWORK, EndpointRequest, NetworkDetail, NetworkDriver, NetworkMember,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::NetError;
use super::naming::ipv6_of;

/// A bridge with addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// The user's name for it.
    pub(crate) name: String,
    /// Nanoseconds since the Unix epoch.
    pub(crate) created_at: u64,
    /// The link that it is on the machine.
    pub(crate) bridge: String,
    /// Its addresses.
    pub(crate) subnet: Ipv4Net,
    /// The one of them that is the machine's.
    pub(crate) gateway: Ipv4Addr,
    /// It has no way out.
    pub(crate) internal: bool,
    /// Its IPv6 addresses, in the last 32 bits of which is the one by IPv4.
    pub(crate) ipv6: Option<Ipv6Net>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// What names of bridges of the user's networks start with.
pub(super) const BRIDGE_PREFIX: &str = "izb-";
/// The bridge of the network that is always there.
pub(super) const DEFAULT_BRIDGE: &str = "isolazi0";

impl Network {
    /// The one that containers join where nobody says.
    pub(crate) fn default_bridge() -> Self {
        const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
        Self {
            id: id_of_builtin(DEFAULT_NETWORK),
            name: DEFAULT_NETWORK.to_owned(),
            created_at: 0,
            bridge: DEFAULT_BRIDGE.to_owned(),
            subnet: Ipv4Net::new_assert(GATEWAY, 24).trunc(),
            gateway: GATEWAY,
            internal: false,
            ipv6: None,
            labels: BTreeMap::new(),
        }
    }

    /// The link that the network `id` is: Linux has names of fifteen bytes (IFNAMSIZ).
    pub(super) fn bridge_of(id: &str) -> String {
        format!("{BRIDGE_PREFIX}{}", &id[..11])
    }

    /// Whether the network has what is asked of it.
    pub(crate) fn check(&self, request: &EndpointRequest) -> Result<(), NetError> {
        match request.address {
            Some(address) if !self.may_give(address) => Err(NetError::Outside {
                address,
                network: self.name.clone(),
                subnet: self.subnet,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a container may have this address.
    pub(super) fn may_give(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
            && address != self.gateway
            && address != self.subnet.network()
            && address != self.subnet.broadcast()
    }

    /// The addresses that containers may have, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let gateway = self.gateway;
        self.subnet
            .hosts()
            .filter(move |&address| address != gateway)
    }

    /// The machine's IPv6 address in it.
    pub(super) fn ipv6_gateway(&self) -> Option<Ipv6Addr> {
        self.ipv6.map(|range| ipv6_of(range, self.gateway))
    }

    /// Whether containers find each other by name there: where the user has put them
    /// together.
    pub(super) fn has_names(&self) -> bool {
        self.name != DEFAULT_NETWORK
    }

    /// For whoever asks; `members` are in it.
    pub(crate) fn detail(&self, members: Vec<NetworkMember>) -> NetworkDetail {
        NetworkDetail {
            id: self.id.clone(),
            name: self.name.clone(),
            created_at: self.created_at,
            driver: NetworkDriver::Bridge,
            bridge: Some(self.bridge.clone()),
            ipv4: Some((self.subnet, self.gateway)),
            ipv6: self.ipv6.zip(self.ipv6_gateway()),
            internal: self.internal,
            labels: self.labels.clone(),
            members,
        }
    }
}

/// An id for a network that has no record: always the same, as it is always there.
pub(super) fn id_of_builtin(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("isolazi network {name}")).into();
    ContainerId::from_random(&digest).to_string()
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

    #[test]
    fn a_bridge_has_a_name_that_linux_takes() {
        let id = id_of_builtin("none");
        assert_eq!(id.len(), 64);
        assert_eq!(Network::bridge_of(&id).len(), 15);
    }
}
