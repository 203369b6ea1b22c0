//! Attaching a container to a network, and taking it away again.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use isolazi_protocol::{Endpoint, MacAddress, NetworkState, PortRequest, PublishedPort};

use super::error::NetError;
use super::links::{INSIDE, Links};
use super::namespace::NetNamespace;
use super::network::Network;
use super::nft::{self, Station};
use super::ports::Reservation;
use super::relay::Relays;
use super::subnet::{address_of, link_of, mac_of};

/// What a container wants of its network.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// This address and no other.
    pub(crate) address: Option<Ipv4Addr>,
    /// This one if it is free: the one that it had before.
    pub(crate) rather: Option<Ipv4Addr>,
    /// This Ethernet address; otherwise one is made.
    pub(crate) mac: Option<MacAddress>,
    /// Ports that lead to it.
    pub(crate) ports: &'a [PortRequest],
    /// They are those of another machine, which relays them.
    pub(crate) relayed: bool,
    /// They are those of the machine outside, where a broker listens here.
    pub(crate) broker: Option<PathBuf>,
}

impl Wish<'_> {
    /// Takes the ports: what is most likely to fail, and leaves nothing behind.
    pub(crate) fn reserve(&self) -> Result<Reservation, NetError> {
        match &self.broker {
            _ if self.relayed => Ok(Reservation::elsewhere(self.ports)),
            Some(socket) => Reservation::through(socket, self.ports),
            None => Reservation::of(self.ports),
        }
    }
}

/// A network namespace that is attached. Dropped, it takes the cable along, unless
/// somebody else is in there.
#[derive(Debug)]
pub(crate) struct Connection {
    namespace: NetNamespace,
    endpoint: Endpoint,
    ports: Vec<PublishedPort>,
}

/// A container's network. Dropped, it takes the relays of its ports along;
/// [`Attachment::detach`] takes everything.
#[derive(Debug)]
pub(crate) struct Attachment {
    connection: Connection,
    relays: Relays,
}

/// Makes a network namespace that is attached to `network`.
pub(crate) async fn attach(network: &Network, wish: &Wish<'_>) -> Result<Attachment, NetError> {
    let reserved = wish.reserve()?;
    let namespace = NetNamespace::create().map_err(NetError::kernel("make a network namespace"))?;
    let connection = connect(network, wish, reserved.ports(), namespace).await?;
    Ok(Attachment::new(connection, reserved))
}

/// The same of a namespace that is there, by a caller without a runtime: on a thread
/// of its own, as long as it takes.
pub(crate) fn connect_now(
    network: &Network,
    wish: &Wish<'_>,
    ports: &[PublishedPort],
    namespace: NetNamespace,
) -> Result<Connection, NetError> {
    let connecting = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(NetError::kernel("start a runtime"))?;
        runtime.block_on(connect(network, wish, ports, namespace))
    };
    let connected = std::thread::scope(|scope| scope.spawn(connecting).join());
    connected.unwrap_or_else(|_| {
        let failed = io::Error::other("it failed unexpectedly; please report this");
        Err(NetError::kernel("connect the container")(failed))
    })
}

async fn connect(
    network: &Network,
    wish: &Wish<'_>,
    ports: &[PublishedPort],
    namespace: NetNamespace,
) -> Result<Connection, NetError> {
    let links = Links::open().map_err(NetError::kernel("talk to the kernel about links"))?;
    let bridge = bridge(&links, network).await?;
    forget_ipv6(&namespace).map_err(NetError::kernel("set up the network namespace"))?;
    let cable = Cable {
        links: &links,
        network,
        bridge,
        inside: &namespace,
    };
    let (address, mac) = cable.lay(wish).await?;
    let endpoint = Endpoint {
        network: network.name.clone(),
        address,
        prefix: network.subnet.prefix(),
        gateway: network.gateway,
        mac,
    };
    configure(&namespace, &endpoint)
        .await
        .map_err(NetError::kernel(format!(
            "configure {INSIDE} in the container"
        )))?;
    let station = Station::new(&endpoint, ports);
    if !ports.is_empty()
        && let Some(port) = links
            .find(&station.link)
            .await
            .map_err(NetError::kernel("find the cable"))?
    {
        let reflecting = links.reflect(port.index).await;
        reflecting.map_err(NetError::kernel(format!(
            "set up the bridge's port {}",
            station.link
        )))?;
    }
    nft::admit(network, &station).map_err(NetError::kernel("set the firewall's rules"))?;
    Ok(Connection {
        namespace,
        endpoint,
        ports: ports.to_vec(),
    })
}

impl Connection {
    /// For whoever asks how the container is attached.
    pub(crate) fn state(&self) -> NetworkState {
        NetworkState {
            endpoint: Some(self.endpoint.clone()),
            ports: self.ports.clone(),
        }
    }
}

impl Attachment {
    /// What is connected, with relays of what is `reserved` for it. To be called within
    /// a `LocalSet`.
    pub(crate) fn new(connection: Connection, reserved: Reservation) -> Self {
        let relays = reserved.relay_to(connection.endpoint.address);
        Self { connection, relays }
    }

    /// The container's network namespace.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.connection.namespace.as_fd()
    }

    /// For whoever asks how the container is attached.
    pub(crate) fn state(&self) -> NetworkState {
        self.connection.state()
    }

    /// Takes the container off the network. What cannot be removed is in nobody's way:
    /// the cable goes with the namespace, and a rule with the next owner of the address.
    pub(crate) async fn detach(self) -> io::Result<()> {
        self.relays.end().await;
        let station = Station::new(&self.connection.endpoint, &self.connection.ports);
        // While the link is there nobody else can have the address, and rules that
        // are theirs cannot be mistaken for these.
        let dismissed = nft::dismiss(&station);
        let links = Links::open()?;
        if let Some(link) = links.find(&station.link).await? {
            links.remove(link.index).await?;
        }
        dismissed
    }
}

/// Removes the rules for a container that has ended without being taken off its
/// network, unless somebody has its address by now. The next owner of the address
/// or of a port removes them, too, so what fails here is not worth telling.
pub(crate) fn forget(state: &NetworkState) {
    let Some(endpoint) = &state.endpoint else {
        return;
    };
    if taken().is_ok_and(|taken| !taken.contains(&endpoint.address)) {
        let _ = nft::dismiss(&Station::new(endpoint, &state.ports));
    }
}

/// The index of the network's bridge, which is made, or mended, where need be.
async fn bridge(links: &Links, network: &Network) -> Result<u32, NetError> {
    let name = &network.bridge;
    let failed = || NetError::kernel(format!("make the bridge {name}"));
    let link = match links.find(name).await.map_err(failed())? {
        Some(link) => link,
        None => {
            match links.add_bridge(name, mac_of(network.gateway)).await {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(failed())?,
            }
            // The machine itself is reached by IPv4 there; not fatal where it has no IPv6.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
            let link = links.find(name).await.map_err(failed())?;
            let link = link.ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?;
            plug_in_again(links, network, link.index)
                .await
                .map_err(failed())?;
            link
        }
    };
    if !link.is_bridge {
        return Err(NetError::NotABridge(name.clone()));
    }
    let prefix = network.subnet.prefix();
    let addressed = links.add_address(link.index, network.gateway, prefix);
    addressed.await.map_err(failed())?;
    if !link.is_up {
        links.bring_up(link.index).await.map_err(failed())?;
    }
    forward().map_err(NetError::kernel(
        "let the machine forward packets (net.ipv4.ip_forward)",
    ))?;
    Ok(link.index)
}

/// Puts the cables of running containers into the bridge when it is made anew.
async fn plug_in_again(links: &Links, network: &Network, bridge: u32) -> io::Result<()> {
    for address in taken()?.into_iter().filter(|&it| network.may_give(it)) {
        if let Some(link) = links.find(&link_of(address)).await? {
            links.plug_in(link.index, bridge).await?;
        }
    }
    Ok(())
}

/// Has the machine pass packets on between its links, if it does not yet.
fn forward() -> io::Result<()> {
    const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
    match fs::read_to_string(SWITCH)?.trim() {
        "1" => Ok(()),
        _ => fs::write(SWITCH, "1"),
    }
}

/// Has links that come to the namespace later go without IPv6, as the bridge does.
fn forget_ipv6(namespace: &NetNamespace) -> io::Result<()> {
    const SWITCH: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    match namespace.within(|| fs::write(SWITCH, "1"))? {
        // A kernel without IPv6 has none to forget.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The addresses of all containers that are attached anywhere on this machine.
fn taken() -> io::Result<Vec<Ipv4Addr>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    Ok(names
        .filter_map(|(name, _)| address_of(name.trim()))
        .collect())
}

/// What it takes to lay a cable.
struct Cable<'a> {
    links: &'a Links,
    network: &'a Network,
    bridge: u32,
    inside: &'a NetNamespace,
}

impl Cable<'_> {
    /// Connects the namespace to the bridge, by the first address that is free.
    async fn lay(&self, wish: &Wish<'_>) -> Result<(Ipv4Addr, MacAddress), NetError> {
        if let Some(address) = wish.address {
            return match self.network.may_give(address) {
                false => Err(NetError::Outside {
                    address,
                    network: self.network.name.clone(),
                    subnet: self.network.subnet.to_string(),
                }),
                true => self
                    .try_address(address, wish.mac)
                    .await?
                    .ok_or(NetError::AddressTaken(address)),
            };
        }
        let taken = taken().map_err(NetError::kernel("list the machine's links"))?;
        let rather = wish
            .rather
            .filter(|&address| self.network.may_give(address));
        let candidates = rather.into_iter().chain(self.network.addresses());
        for address in candidates.filter(|address| !taken.contains(address)) {
            if let Some(laid) = self.try_address(address, wish.mac).await? {
                return Ok(laid);
            }
        }
        Err(NetError::Full {
            network: self.network.name.clone(),
            subnet: self.network.subnet.to_string(),
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
        match self
            .links
            .add_cable(&name, self.bridge, self.inside, mac)
            .await
        {
            Ok(()) => Ok(Some((address, mac))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(NetError::kernel("connect the container (veth)")(error)),
        }
    }
}

async fn configure(namespace: &NetNamespace, endpoint: &Endpoint) -> io::Result<()> {
    let links = Links::within(namespace)?;
    let eth0 = links.find(INSIDE).await?;
    let eth0 = eth0.ok_or(io::ErrorKind::NotFound)?.index;
    links
        .add_address(eth0, endpoint.address, endpoint.prefix)
        .await?;
    links.bring_up(eth0).await?;
    links.add_default_route(endpoint.gateway).await
}
