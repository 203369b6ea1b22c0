//! Networks under Docker's field names: a container's `NetworkSettings`, what of `Config`
//! and `HostConfig` is about them, and a network itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use isolazi_protocol::{
    ContainerDetail, Endpoint, EndpointRequest, ExposedPort, NetworkDetail, NetworkMode,
};
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
    let first = detail.spec.network.endpoints().first();
    let mac = first.and_then(|it| it.mac).map(|mac| mac.to_string());
    described["Config"]["MacAddress"] = json!(mac.unwrap_or_default());
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
    if !network.endpoints.is_empty() {
        for port in &detail.spec.options.network.exposed {
            // Named, but not to be reached from outside.
            ports
                .as_object_mut()
                .map(|all| all.entry(port.to_string()).or_insert(Value::Null));
        }
    }
    // What Docker had before there were several: those of the first.
    let first = network.endpoints.first();
    let text = |of: fn(&Endpoint) -> String| first.map(of).unwrap_or_default();
    json!({
        "IPAddress": text(|it| it.address.to_string()),
        "IPPrefixLen": first.map_or(0, |it| it.prefix),
        "Gateway": text(gateway),
        "MacAddress": text(|it| it.mac.to_string()),
        "Ports": ports,
        "Networks": networks(detail),
    })
}

/// By name; those that have no addresses are there, too.
fn networks(detail: &ContainerDetail) -> Value {
    let attached = &detail.network.endpoints;
    let all: Map<String, Value> = match &detail.spec.network {
        NetworkMode::Container(_) => Map::new(),
        NetworkMode::Networks(asked) => asked
            .iter()
            .map(|asked| {
                let endpoint = attached.iter().find(|it| it.network == asked.network);
                (asked.network.clone(), network(detail, asked, endpoint))
            })
            .collect(),
        mode @ (NetworkMode::None | NetworkMode::Host) => {
            let name = mode.to_string();
            let nothing = network(detail, &EndpointRequest::new(&name), None);
            [(name, nothing)].into_iter().collect()
        }
    };
    Value::Object(all)
}

/// What was asked for, and what came of it.
fn network(
    detail: &ContainerDetail,
    asked: &EndpointRequest,
    endpoint: Option<&Endpoint>,
) -> Value {
    let text = |of: fn(&Endpoint) -> String| endpoint.map(of).unwrap_or_default();
    let ipv6 = endpoint.and_then(|it| it.ipv6);
    let names = match asked.network.as_str() {
        isolazi_protocol::DEFAULT_NETWORK => Value::Null,
        _ => json!(names(detail, asked)),
    };
    json!({
        "IPAMConfig": asked.address.map(|it| json!({ "IPv4Address": it })),
        "Aliases": asked.aliases,
        "DNSNames": names,
        "IPAddress": text(|it| it.address.to_string()),
        "IPPrefixLen": endpoint.map_or(0, |it| it.prefix),
        "Gateway": text(gateway),
        "MacAddress": text(|it| it.mac.to_string()),
        "GlobalIPv6Address": ipv6.map(|it| it.address.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": ipv6.map_or(0, |it| it.prefix),
        "IPv6Gateway": ipv6.map(|it| it.gateway.to_string()).unwrap_or_default(),
    })
}

/// What the container is found by in a network that has names.
fn names<'a>(detail: &'a ContainerDetail, asked: &'a EndpointRequest) -> Vec<&'a str> {
    let own = [detail.name.as_str(), detail.id.short()];
    let aliases = asked.aliases.iter().map(String::as_str);
    own.into_iter().chain(aliases).collect()
}

/// Where what is for elsewhere goes; nowhere in a network without a way out.
fn gateway(endpoint: &Endpoint) -> String {
    match endpoint.internal {
        true => String::new(),
        false => endpoint.gateway.to_string(),
    }
}

/// The JSON object that `isolazi network inspect` prints.
pub fn network_detail(network: &NetworkDetail) -> Value {
    let members = network.members.iter().map(|member| {
        let endpoint = &member.endpoint;
        let ipv6 = endpoint
            .ipv6
            .map(|it| format!("{}/{}", it.address, it.prefix));
        let described = json!({
            "Name": member.name,
            "MacAddress": endpoint.mac.to_string(),
            "IPv4Address": format!("{}/{}", endpoint.address, endpoint.prefix),
            "IPv6Address": ipv6.unwrap_or_default(),
        });
        (member.container.to_string(), described)
    });
    let range = |subnet: String, gateway: String| json!({ "Subnet": subnet, "Gateway": gateway });
    let ipv4 = network
        .ipv4
        .map(|(subnet, gateway)| range(subnet.to_string(), gateway.to_string()));
    let ipv6 = network
        .ipv6
        .map(|(subnet, gateway)| range(subnet.to_string(), gateway.to_string()));
    let ranges: Vec<Value> = ipv4.into_iter().chain(ipv6).collect();
    let created = UNIX_EPOCH + Duration::from_nanos(network.created_at);
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": humantime::format_rfc3339_nanos(created).to_string(),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv4": network.ipv4.is_some(),
        "EnableIPv6": network.ipv6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": ranges },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "Containers": members.collect::<Map<String, Value>>(),
        "Options": network.bridge.as_ref().map_or(json!({}), |bridge| {
            json!({ "com.docker.network.bridge.name": bridge })
        }),
        "Labels": network.labels,
    })
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
