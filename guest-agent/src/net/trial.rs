//! Whether the kernel can do what networks take. Meant for a network namespace that
//! nobody uses.

use std::io;
use std::net::SocketAddrV4;

use isolazi_protocol::{MacAddress, PortProtocol};

use super::links::{CableEnd, Links};
use super::namespace::NetNamespace;
use super::network::DEFAULT_BRIDGE;
use super::nft;

const NAME: &str = "trial";
/// Locally administered (IEEE 802, second bit of the first octet).
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Makes a bridge and a cable in the caller's network namespace.
pub(crate) async fn try_links() -> io::Result<()> {
    let links = Links::open()?;
    links.add_bridge(NAME, MAC).await?;
    let bridge = links.find(NAME).await?.ok_or(io::ErrorKind::NotFound)?;
    let namespace = NetNamespace::own()?;
    let inside = CableEnd {
        namespace: &namespace,
        interface: "trial1",
        mac: MAC,
    };
    links.add_cable("trial0", bridge.index, &inside).await
}

/// Has packets for `from` sent elsewhere in the caller's network namespace.
pub(crate) fn try_rules(from: SocketAddrV4) -> io::Result<()> {
    let to = [(PortProtocol::Tcp, 1), (PortProtocol::Udp, 1)];
    nft::redirect_within(from, to)
}

/// What is in the way of packets of the default network, and what helps.
pub(crate) fn firewall_advice() -> io::Result<Option<(String, String)>> {
    let obstacle = nft::obstacle(DEFAULT_BRIDGE)?;
    Ok(obstacle.map(|it| (it.state(), it.remedy(DEFAULT_BRIDGE))))
}
