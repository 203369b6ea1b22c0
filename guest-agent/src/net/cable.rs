//! A cable from a container to a network's bridge, and the address that goes with it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use isolazi_protocol::{Endpoint, EndpointRequest, Ipv6Endpoint, MacAddress};
use tokio::time::sleep;

use super::bridge::{self, forwards_ipv6, taken};
use super::error::NetError;
use super::links::{CableEnd, Links};
use super::namespace::NetNamespace;
use super::naming::{ipv6_of, link_of, mac_of};
use super::network::Network;

/// Within this time a container that has just been removed gives its address back.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

/// A network that a container is to be in, and how.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Which.
    pub(crate) network: Network,
    /// What was asked for.
    pub(crate) request: EndpointRequest,
    /// This address if it is free: the one that it had before.
    pub(crate) rather: Option<Ipv4Addr>,
}

/// Connects `namespace` by an interface of this name, and configures that.
pub(super) async fn lay(
    links: &Links,
    join: &Join,
    namespace: &NetNamespace,
    interface: &str,
) -> Result<Endpoint, NetError> {
    let network = &join.network;
    let cable = Cable {
        links,
        network,
        bridge: bridge::bridge(links, network).await?,
        namespace,
        interface,
    };
    let (address, mac) = cable.connect(join).await?;
    let endpoint = Endpoint {
        network: network.name.clone(),
        interface: interface.to_owned(),
        address,
        prefix: network.subnet.prefix_len(),
        gateway: network.gateway,
        internal: network.internal,
        mac,
        aliases: join.request.aliases.clone(),
        ipv6: network
            .ipv6
            .zip(network.ipv6_gateway())
            .map(|(range, gateway)| Ipv6Endpoint {
                address: ipv6_of(range, address),
                prefix: range.prefix_len(),
                gateway,
            }),
    };
    let configured = configure(namespace, &endpoint).await;
    configured.map_err(NetError::kernel(format!(
        "configure {interface} in the container"
    )))?;
    Ok(endpoint)
}

/// Unplugs the container at `endpoint`. That it is not plugged in is fine.
pub(super) async fn remove(endpoint: &Endpoint) -> io::Result<()> {
    let links = Links::open()?;
    match links.find(&link_of(endpoint.address)).await? {
        Some(link) => links.remove(link.index).await,
        None => Ok(()),
    }
}

/// Has links that come to the namespace later go without IPv6, until told otherwise.
pub(super) fn forget_ipv6(namespace: &NetNamespace) -> io::Result<()> {
    namespace.within(|| set_ipv6("default", "disable_ipv6", "1"))?
}

/// Sends what is for elsewhere through `endpoint`, where nothing else does so yet.
pub(super) async fn lead_out(namespace: &NetNamespace, endpoint: &Endpoint) -> io::Result<()> {
    let links = Links::within(namespace)?;
    links.add_default_route(endpoint.gateway).await?;
    match endpoint.ipv6 {
        Some(ipv6) if forwards_ipv6() => links.add_default_ipv6_route(ipv6.gateway).await,
        _ => Ok(()),
    }
}

fn set_ipv6(link: &str, name: &str, value: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{link}/{name}"), value) {
        // A kernel without IPv6 has none to set up.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

async fn configure(namespace: &NetNamespace, endpoint: &Endpoint) -> io::Result<()> {
    let links = Links::within(namespace)?;
    let link = links.find(&endpoint.interface).await?;
    let link = link.ok_or(io::ErrorKind::NotFound)?.index;
    links
        .add_address(link, endpoint.address, endpoint.prefix)
        .await?;
    if let Some(ipv6) = endpoint.ipv6 {
        let interface = &endpoint.interface;
        namespace.within(|| {
            set_ipv6(interface, "accept_ra", "0")?;
            set_ipv6(interface, "disable_ipv6", "0")
        })??;
        links.add_address(link, ipv6.address, ipv6.prefix).await?;
    }
    links.bring_up(link).await
}

/// What it takes to lay a cable.
struct Cable<'a> {
    links: &'a Links,
    network: &'a Network,
    bridge: u32,
    namespace: &'a NetNamespace,
    interface: &'a str,
}

impl Cable<'_> {
    /// Connects the namespace to the bridge. Where there is no address for it, a container
    /// may just be going that has one.
    async fn connect(&self, join: &Join) -> Result<(Ipv4Addr, MacAddress), NetError> {
        let start = Instant::now();
        loop {
            match self.try_connect(join).await {
                Err(NetError::AddressTaken(_) | NetError::Full { .. })
                    if start.elapsed() < PATIENCE =>
                {
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// By the address that was asked for, or the first one that is free.
    async fn try_connect(&self, join: &Join) -> Result<(Ipv4Addr, MacAddress), NetError> {
        let mac = join.request.mac;
        if let Some(address) = join.request.address {
            self.network.check(&join.request)?;
            let laid = self.try_address(address, mac).await?;
            return laid.ok_or(NetError::AddressTaken(address));
        }
        let taken = taken().map_err(NetError::kernel("list the machine's links"))?;
        let rather = join
            .rather
            .filter(|&address| self.network.may_give(address));
        let candidates = rather.into_iter().chain(self.network.addresses());
        for address in candidates.filter(|address| !taken.contains(address)) {
            if let Some(laid) = self.try_address(address, mac).await? {
                return Ok(laid);
            }
        }
        Err(NetError::Full {
            network: self.network.name.clone(),
            subnet: self.network.subnet,
        })
    }

    /// `None` where somebody else has the address by now.
    async fn try_address(
        &self,
        address: Ipv4Addr,
        mac: Option<MacAddress>,
    ) -> Result<Option<(Ipv4Addr, MacAddress)>, NetError> {
        let mac = mac.unwrap_or_else(|| mac_of(address));
        let name = link_of(address);
        let inside = CableEnd {
            namespace: self.namespace,
            interface: self.interface,
            mac,
        };
        match self.links.add_cable(&name, self.bridge, &inside).await {
            Ok(()) => Ok(Some((address, mac))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(NetError::kernel("connect the container (veth)")(error)),
        }
    }
}
