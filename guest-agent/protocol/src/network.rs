//! Networks: what a container joins, what it publishes, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// Name of the network that a container joins where nobody says.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Most bytes of a UDP datagram (its length field has 16 bits).
pub const MAX_DATAGRAM: usize = 65_535;

/// Which networks a container joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network namespace with nothing but loopback.
    None,
    /// These, each by an interface of its own: `eth0` is in the first one.
    Networks(Vec<EndpointRequest>),
    /// The machine's own, without any isolation.
    Host,
    /// The one of another container, by its name or id.
    Container(String),
}

impl Default for NetworkMode {
    fn default() -> Self {
        Self::Networks(vec![EndpointRequest::new(DEFAULT_NETWORK)])
    }
}

impl NetworkMode {
    /// The networks that it joins.
    pub fn endpoints(&self) -> &[EndpointRequest] {
        match self {
            Self::Networks(endpoints) => endpoints,
            _ => &[],
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            // Docker's name for all of it is that of the first one.
            Self::Networks(endpoints) => {
                f.write_str(endpoints.first().map_or(DEFAULT_NETWORK, |it| &it.network))
            }
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

/// How a container is to be in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// The network's name.
    pub network: String,
    /// The container's address; a free one where there is none.
    pub address: Option<Ipv4Addr>,
    /// Its Ethernet address; made from the address where there is none.
    pub mac: Option<MacAddress>,
    /// Names that it has there, beside its own.
    pub aliases: Vec<String>,
}

impl EndpointRequest {
    /// In this network, without any wishes.
    pub fn new(network: impl Into<String>) -> Self {
        Self {
            network: network.into(),
            ..Self::default()
        }
    }
}

/// What of a container's network is the same in all networks that it is in. What is
/// not said is as if it were not there, so that containers made before an option existed
/// can still be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkOptions {
    /// What of it can be reached from outside.
    pub ports: Vec<PortRequest>,
    /// The host publishes these ports itself, and relays to the container.
    pub relayed: bool,
    /// Ports that the image says it serves; `inspect` shows them.
    pub exposed: Vec<ExposedPort>,
    /// Where it reaches the host.
    pub host: HostAddress,
}

/// Where containers reach the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostAddress {
    /// It is their network's gateway.
    #[default]
    Gateway,
    /// In the network of the machine.
    At(Ipv4Addr),
    /// It is the gateway of the system that the engine is in, where that has one.
    EnginesGateway,
}

/// A transport protocol that has ports.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl PortProtocol {
    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The one of this name, in whatever case.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|it| it.name().eq_ignore_ascii_case(name))
    }
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExposedPort {
    /// Its number, not 0.
    pub port: u16,
    /// Of which protocol.
    pub protocol: PortProtocol,
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.name())
    }
}

/// A port of a container that is to be reached through the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// On this address of the host's only; on all where there is none.
    pub address: Option<IpAddr>,
    /// By this port of the host's; by a free one where there is none.
    pub host_port: Option<u16>,
    /// The container's.
    pub target: ExposedPort,
}

/// A port of a container that can be reached through the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's.
    pub target: ExposedPort,
    /// The address of the host's; unspecified for all of its family.
    pub address: IpAddr,
    /// The port of the host's.
    pub host_port: u16,
}

/// What became of a container's network while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkState {
    /// Where it is attached.
    pub endpoints: Vec<Endpoint>,
    /// How it can be reached from outside.
    pub ports: Vec<PublishedPort>,
}

impl NetworkState {
    /// Where its way out begins, and published ports lead to: the first of its networks
    /// that has a way out.
    pub fn outward(&self) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| !endpoint.internal)
    }
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// The container's interface there: `eth0`.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// So many bits of the address are the network's.
    pub prefix: u8,
    /// The machine's address there, to which it sends what is for elsewhere.
    pub gateway: Ipv4Addr,
    /// There is no way out of the network.
    pub internal: bool,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Names that it has there, beside its own.
    pub aliases: Vec<String>,
    /// The same by IPv6, where the network has it.
    pub ipv6: Option<Ipv6Endpoint>,
}

/// A container's place in a network's range of IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Endpoint {
    /// Its address.
    pub address: Ipv6Addr,
    /// So many bits of the address are the network's.
    pub prefix: u8,
    /// The machine's address there.
    pub gateway: Ipv6Addr,
}

/// A network that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Its addresses; free ones where there are none.
    pub subnet: Option<Ipv4Net>,
    /// The machine's address there; the first one where there is none.
    pub gateway: Option<Ipv4Addr>,
    /// It has no way out.
    pub internal: bool,
    /// It has IPv6, too.
    pub ipv6: bool,
    /// Its IPv6 addresses; made-up ones where there are none (RFC 4193).
    pub ipv6_subnet: Option<Ipv6Net>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What makes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// A bridge of its own.
    Bridge,
    /// The machine's network.
    Host,
    /// Nothing.
    Null,
}

impl NetworkDriver {
    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// Everything there is to know of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDetail {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nanoseconds since the Unix epoch; 0 for those that are always there.
    pub created_at: u64,
    /// What makes it.
    pub driver: NetworkDriver,
    /// The link that it is on the machine, where it is one.
    pub bridge: Option<String>,
    /// Its addresses, and the machine's among them.
    pub ipv4: Option<(Ipv4Net, Ipv4Addr)>,
    /// The same by IPv6.
    pub ipv6: Option<(Ipv6Net, Ipv6Addr)>,
    /// It has no way out.
    pub internal: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The containers that are in it.
    pub members: Vec<NetworkMember>,
}

/// A running container, and its place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMember {
    /// Its id.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its place.
    pub endpoint: Endpoint,
}

/// An Ethernet address: `02:42:ac:14:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Not six bytes in hexadecimal, or not the address of a single station.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an Ethernet address is six pairs of hexadecimal digits such as 02:42:ac:14:00:02, the first of them even"
)]
pub struct BadMacAddress;

impl FromStr for MacAddress {
    type Err = BadMacAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let is_byte = |part: &&str| part.len() == 2 && !part.starts_with('+');
            let part = parts.next().filter(is_byte).ok_or(BadMacAddress)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMacAddress)?;
        }
        let is_group = bytes[0] & 1 == 1;
        match parts.next().is_some() || is_group || bytes == [0; 6] {
            true => Err(BadMacAddress),
            false => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_is_that_of_one_station() {
        let address: MacAddress = "02:42:AC-14:00:02".parse().unwrap();
        assert_eq!(address.to_string(), "02:42:ac:14:00:02");
        for bad in [
            "",
            "02:42:ac:14:00",
            "02:42:ac:14:00:02:03",
            "2:42:ac:14:00:02",
            "02:42:ac:14:00:xx",
            "+2:42:ac:14:00:02",
            "01:42:ac:14:00:02",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
        ] {
            assert_eq!(bad.parse::<MacAddress>(), Err(BadMacAddress), "{bad}");
        }
    }
}
