//! Networks.

use std::net::{Ipv4Addr, Ipv6Addr};

use isolazi_protocol::*;

use super::{id, labels, name};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

pub(super) fn options() -> NetworkOptions {
    NetworkOptions {
        ports: vec![PortRequest {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            host_port: Some(8080),
            target: port(PortProtocol::Tcp),
        }],
        relayed: true,
        exposed: vec![port(PortProtocol::Udp)],
        host: HostAddress::At(Ipv4Addr::new(192, 0, 2, 4)),
    }
}

pub(super) fn port(protocol: PortProtocol) -> ExposedPort {
    ExposedPort { port: 80, protocol }
}

pub(super) fn published(protocol: PortProtocol) -> PublishedPort {
    PublishedPort {
        target: port(protocol),
        address: Ipv4Addr::UNSPECIFIED.into(),
        host_port: 8080,
    }
}

pub(super) fn request() -> EndpointRequest {
    EndpointRequest {
        network: "front".to_owned(),
        address: Some(Ipv4Addr::new(192, 0, 2, 3)),
        mac: Some(MAC),
        aliases: vec!["www".to_owned()],
    }
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        network: "front".to_owned(),
        interface: "eth0".to_owned(),
        address: Ipv4Addr::new(192, 0, 2, 2),
        prefix: 24,
        gateway: Ipv4Addr::new(192, 0, 2, 1),
        internal: true,
        mac: MAC,
        aliases: vec!["www".to_owned()],
        ipv6: Some(Ipv6Endpoint {
            address: SIX,
            prefix: 64,
            gateway: SIX,
        }),
    }
}

pub(super) fn requests() -> Vec<Request> {
    vec![
        Request::CreateNetwork(NetworkRequest {
            name: name(),
            subnet: Some("192.0.2.0/24".parse().unwrap()),
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
            internal: true,
            ipv6: true,
            ipv6_subnet: Some("fd00::/64".parse().unwrap()),
            labels: labels(),
        }),
        Request::Networks {
            names: Some(vec![name()]),
        },
        Request::RemoveNetwork {
            name: name(),
            force: true,
        },
        Request::PruneNetworks,
        Request::Connect {
            container: name(),
            endpoint: request(),
        },
        Request::Disconnect {
            container: name(),
            network: name(),
        },
    ]
}

pub(super) fn replies() -> Vec<Result<Reply, WireError>> {
    let network = |driver| NetworkDetail {
        id: id().to_string(),
        name: name(),
        created_at: 6,
        driver,
        bridge: Some("b".to_owned()),
        ipv4: Some(("192.0.2.0/24".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1))),
        ipv6: Some(("fd00::/64".parse().unwrap(), SIX)),
        internal: true,
        labels: labels(),
        members: vec![NetworkMember {
            container: id(),
            name: name(),
            endpoint: endpoint(),
        }],
    };
    let drivers = [
        NetworkDriver::Bridge,
        NetworkDriver::Host,
        NetworkDriver::Null,
    ];
    vec![
        Ok(Reply::Networks(drivers.map(network).into())),
        Ok(Reply::PrunedNetworks(vec![name()])),
    ]
}
