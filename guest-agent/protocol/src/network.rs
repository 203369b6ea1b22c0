//! Networks: what a container joins, what it publishes, and what came of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of the network that a container joins where nobody says.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Most bytes of a UDP datagram (its length field has 16 bits).
pub const MAX_DATAGRAM: usize = 65_535;

/// Which network a container joins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network namespace with nothing but loopback.
    None,
    /// The default bridge.
    #[default]
    Bridge,
    /// The machine's own, without any isolation.
    Host,
    /// The one of another container, by its name or id.
    Container(String),
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Bridge => f.write_str(DEFAULT_NETWORK),
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

/// How a container is to be in its network. What is not said is as if it were not
/// there, so that containers made before an option existed can still be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkOptions {
    /// What of it can be reached from outside.
    pub ports: Vec<PortRequest>,
    /// The host publishes these ports itself, and relays to the container.
    pub relayed: bool,
    /// Ports that the image says it serves; `inspect` shows them.
    pub exposed: Vec<ExposedPort>,
    /// Its address; a free one where there is none.
    pub address: Option<Ipv4Addr>,
    /// Its Ethernet address; made from the address where there is none.
    pub mac: Option<MacAddress>,
    /// Where it reaches the host; the network's gateway where there is none.
    pub host: Option<Ipv4Addr>,
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
    pub endpoint: Option<Endpoint>,
    /// How it can be reached from outside.
    pub ports: Vec<PublishedPort>,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// So many bits of the address are the network's.
    pub prefix: u8,
    /// Where it sends what is for elsewhere.
    pub gateway: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: MacAddress,
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
