//! What a container asks of its network, checked, and what it comes to.

use isolazi_protocol::{
    ContainerId, ContainerSpec, DEFAULT_NETWORK, EndpointRequest, NetworkMode, PortRequest,
    UserNamespace, WireError,
};

use super::checks::invalid;
use crate::launch::plan::{NetworkPlan, NetworksPlan};
use crate::refusal::excerpt;

/// So many ports may be published, which is more than there is any use for.
const MOST_PORTS: usize = 4096;
/// Bytes of a name that can be asked for (RFC 1035, 3.1).
const LONGEST_ALIAS: usize = 253;

/// Checks what does not depend on the machine.
pub(super) fn validate(spec: &ContainerSpec) -> Result<(), WireError> {
    let options = &spec.options.network;
    let is_attached = matches!(spec.network, NetworkMode::Networks(_));
    if !options.ports.is_empty() && !is_attached {
        return Err(invalid(format!(
            "a container with network {} cannot have ports (-p, -P); leave those or --network out",
            spec.network
        )));
    }
    let endpoints = spec.network.endpoints();
    for (index, endpoint) in endpoints.iter().enumerate() {
        validate_endpoint(endpoint)?;
        let is_same = |other: &EndpointRequest| other.network == endpoint.network;
        if endpoints[..index].iter().any(is_same) {
            return Err(invalid(format!(
                "network {} is named twice; name it once",
                endpoint.network
            )));
        }
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

/// Checks what is asked of one network.
pub(crate) fn validate_endpoint(endpoint: &EndpointRequest) -> Result<(), WireError> {
    let name = &endpoint.network;
    if name == DEFAULT_NETWORK && !endpoint.aliases.is_empty() {
        return Err(invalid(format!(
            "network {name} has no names: use --network-alias in a network of your own (isolazi network create)"
        )));
    }
    let is_fine =
        |alias: &&String| !alias.is_empty() && alias.len() <= LONGEST_ALIAS && is_word(alias);
    match endpoint.aliases.iter().find(|alias| !is_fine(alias)) {
        None => Ok(()),
        Some(bad) => Err(invalid(format!(
            "'{}' is no name for a container in a network: use letters, digits, '_', '.' and '-'",
            excerpt(bad)
        ))),
    }
}

fn is_word(alias: &str) -> bool {
    let mut bytes = alias.bytes();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Where the network comes from. `peer` is the container whose network is shared.
pub(super) fn plan(spec: &ContainerSpec, peer: Option<ContainerId>) -> NetworkPlan {
    let options = &spec.options.network;
    match (&spec.network, peer) {
        (NetworkMode::Container(_), Some(peer)) => NetworkPlan::Container(peer),
        (NetworkMode::None | NetworkMode::Container(_), _) => NetworkPlan::Alone,
        (NetworkMode::Host, _) => NetworkPlan::Machine,
        (NetworkMode::Networks(endpoints), _) => NetworkPlan::Networks(NetworksPlan {
            endpoints: endpoints.clone(),
            ports: options.ports.clone(),
            relayed: options.relayed,
        }),
    }
}
