//! What a container asks of its network, checked, and what it comes to.

use isolazi_protocol::{
    ContainerId, ContainerSpec, NetworkMode, PortRequest, UserNamespace, WireError,
};

use super::plan::invalid;
use crate::launch::plan::{EndpointPlan, NetworkPlan};

/// So many ports may be published, which is more than there is any use for.
const MOST_PORTS: usize = 4096;

/// Checks what does not depend on the machine.
pub(super) fn validate(spec: &ContainerSpec) -> Result<(), WireError> {
    let options = &spec.options.network;
    let is_attached = spec.network == NetworkMode::Bridge;
    let asked = [
        (!options.ports.is_empty(), "ports (-p, -P)"),
        (options.address.is_some(), "an address (--ip)"),
        (options.mac.is_some(), "an Ethernet address (--mac-address)"),
    ];
    if let Some((_, what)) = asked.iter().find(|(is_asked, _)| *is_asked && !is_attached) {
        return Err(invalid(format!(
            "a container with network {} cannot have {what}; leave that or --network out",
            spec.network
        )));
    }
    let is_shared = matches!(spec.network, NetworkMode::Host | NetworkMode::Container(_));
    let users = &spec.options.userns;
    if is_shared && matches!(users, UserNamespace::Auto | UserNamespace::Mapped { .. }) {
        return Err(invalid(format!(
            "a container with users of its own cannot share network {}; leave --network or --userns out",
            spec.network
        )));
    }
    if options.ports.len() > MOST_PORTS {
        return Err(invalid(format!(
            "{} ports are too many to publish: at most {MOST_PORTS}",
            options.ports.len()
        )));
    }
    let is_bad = |port: &&PortRequest| port.target.port == 0 || port.host_port == Some(0);
    match options.ports.iter().find(is_bad) {
        None => Ok(()),
        Some(_) => Err(invalid("ports are numbers from 1 to 65535".to_owned())),
    }
}

/// Where the network comes from. `peer` is the container whose network is shared.
pub(super) fn plan(spec: &ContainerSpec, peer: Option<ContainerId>) -> NetworkPlan {
    let options = &spec.options.network;
    match (&spec.network, peer) {
        (NetworkMode::Container(_), Some(peer)) => NetworkPlan::Container(peer),
        (NetworkMode::None | NetworkMode::Container(_), _) => NetworkPlan::Alone,
        (NetworkMode::Host, _) => NetworkPlan::Machine,
        (NetworkMode::Bridge, _) => NetworkPlan::Bridge(EndpointPlan {
            ports: options.ports.clone(),
            relayed: options.relayed,
            address: options.address,
            mac: options.mac,
        }),
    }
}
