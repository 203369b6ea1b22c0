//! A container's network under Docker's field names: `NetworkSettings`, and what of
//! `Config` and `HostConfig` is about it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isolazi_protocol::{ContainerDetail, Endpoint, ExposedPort, NetworkMode};
use serde_json::{Map, Value, json};

/// Adds to `described` how the container is connected.
pub(super) fn describe(described: &mut Value, detail: &ContainerDetail) {
    let options = &detail.spec.options.network;
    let exposed = options
        .exposed
        .iter()
        .chain(options.ports.iter().map(|it| &it.target));
    let exposed: Map<String, Value> = exposed.map(|port| (port.to_string(), json!({}))).collect();
    described["Config"]["ExposedPorts"] = Value::Object(exposed);
    described["Config"]["MacAddress"] =
        json!(options.mac.map(|mac| mac.to_string()).unwrap_or_default());
    described["HostConfig"]["NetworkMode"] = json!(detail.spec.network.to_string());
    let wanted = options.ports.iter();
    let wanted = wanted.map(|port| (port.target, binding(port.address, port.host_port)));
    described["HostConfig"]["PortBindings"] = bindings(wanted);
    described["NetworkSettings"] = settings(detail);
}

fn settings(detail: &ContainerDetail) -> Value {
    let network = &detail.network;
    let published = network.ports.iter();
    let published = published.map(|port| {
        (
            port.target,
            binding(Some(port.address), Some(port.host_port)),
        )
    });
    let mut ports = bindings(published);
    if network.endpoint.is_some() {
        for port in &detail.spec.options.network.exposed {
            // Named, but not to be reached from outside.
            ports
                .as_object_mut()
                .map(|all| all.entry(port.to_string()).or_insert(Value::Null));
        }
    }
    let endpoint = network.endpoint.as_ref();
    let text = |of: fn(&Endpoint) -> String| endpoint.map(of).unwrap_or_default();
    json!({
        "IPAddress": text(|it| it.address.to_string()),
        "IPPrefixLen": endpoint.map_or(0, |it| it.prefix),
        "Gateway": text(|it| it.gateway.to_string()),
        "MacAddress": text(|it| it.mac.to_string()),
        "Ports": ports,
        "Networks": networks(&detail.spec.network, endpoint),
    })
}

/// By name; those that have no addresses are there, too.
fn networks(mode: &NetworkMode, endpoint: Option<&Endpoint>) -> Value {
    match (mode, endpoint) {
        (NetworkMode::Container(_), _) => json!({}),
        (_, Some(endpoint)) => json!({
            (&endpoint.network): {
                "IPAddress": endpoint.address,
                "IPPrefixLen": endpoint.prefix,
                "Gateway": endpoint.gateway,
                "MacAddress": endpoint.mac.to_string(),
            }
        }),
        (mode, None) => json!({
            (mode.to_string()): {
                "IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "",
            }
        }),
    }
}

fn binding(address: Option<IpAddr>, port: Option<u16>) -> Value {
    json!({
        "HostIp": address.map(|it| it.to_string()).unwrap_or_default(),
        "HostPort": port.map(|it| it.to_string()).unwrap_or_default(),
    })
}

/// All that leads to each port.
fn bindings(of: impl Iterator<Item = (ExposedPort, Value)>) -> Value {
    let mut all: BTreeMap<ExposedPort, Vec<Value>> = BTreeMap::new();
    for (port, binding) in of {
        all.entry(port).or_default().push(binding);
    }
    let all = all.into_iter();
    Value::Object(
        all.map(|(port, list)| (port.to_string(), json!(list)))
            .collect(),
    )
}
