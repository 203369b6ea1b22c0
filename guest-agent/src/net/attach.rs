//! Attaching a container to networks, and taking it away again.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;

use isolazi_protocol::{Endpoint, NetworkState, PortRequest, PublishedPort};
use tokio::sync::Mutex;

use super::bridge::taken;
use super::broker;
use super::cable::{self, Join};
use super::error::NetError;
use super::links::Links;
use super::names::{Directory, NameServer, Sockets};
use super::namespace::NetNamespace;
use super::naming::link_of;
use super::network::Network;
use super::nft::{self, Station};
use super::ports::Reservation;
use super::relay::Relays;

/// What a container wants of its networks.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Those that it joins, in the order of its interfaces.
    pub(crate) joins: Vec<Join>,
    /// Ports that lead to it.
    pub(crate) ports: Vec<PortRequest>,
    /// They are those of another machine, which relays them.
    pub(crate) relayed: bool,
    /// They are those of the machine outside, where a broker listens here.
    pub(crate) broker: Option<PathBuf>,
}

impl Wish {
    /// Takes the ports: what is most likely to fail, and leaves nothing behind.
    pub(crate) fn reserve(&self) -> Result<Reservation, NetError> {
        match &self.broker {
            _ if self.relayed => Ok(Reservation::elsewhere(&self.ports)),
            Some(socket) => broker::reserve(socket, &self.ports),
            None => Reservation::of(&self.ports),
        }
    }
}

/// A network namespace that is attached. Dropped, it takes the cables along, unless
/// somebody else is in there.
#[derive(Debug)]
pub(crate) struct Connection {
    namespace: NetNamespace,
    state: NetworkState,
    /// Where it asks for names, once it is in a network that has them.
    sockets: Option<Sockets>,
}

/// Makes a network namespace that is attached as `wish` says.
pub(crate) async fn attach(wish: &Wish, ports: &[PublishedPort]) -> Result<Connection, NetError> {
    let namespace = NetNamespace::create().map_err(NetError::kernel("make a network namespace"))?;
    connect(wish, ports, namespace).await
}

/// The same of a namespace that is there, by a caller without a runtime: on a thread
/// of its own, as long as it takes.
pub(crate) fn connect_now(
    wish: &Wish,
    ports: &[PublishedPort],
    namespace: NetNamespace,
) -> Result<Connection, NetError> {
    let connecting = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NetError::kernel("start a runtime"))?;
        runtime.block_on(connect(wish, ports, namespace))
    };
    let connected = std::thread::scope(|scope| scope.spawn(connecting).join());
    connected.unwrap_or_else(|_| {
        let failed = io::Error::other("it failed unexpectedly; please report this");
        Err(NetError::kernel("connect the container")(failed))
    })
}

async fn connect(
    wish: &Wish,
    ports: &[PublishedPort],
    namespace: NetNamespace,
) -> Result<Connection, NetError> {
    let links = links()?;
    cable::forget_ipv6(&namespace).map_err(NetError::kernel("set up the network namespace"))?;
    let mut endpoints = Vec::new();
    for (index, join) in wish.joins.iter().enumerate() {
        let interface = format!("eth{index}");
        endpoints.push(cable::lay(&links, join, &namespace, &interface).await?);
    }
    let state = NetworkState {
        endpoints,
        ports: ports.to_vec(),
    };
    let networks = wish.joins.iter().map(|join| &join.network);
    admit(&links, networks.zip(&state.endpoints), &state).await?;
    lead_out(&namespace, &state).await?;
    let has_names = wish.joins.iter().any(|join| join.network.has_names());
    let sockets = has_names.then(|| ask_for_names(&namespace));
    Ok(Connection {
        sockets: sockets.transpose()?,
        namespace,
        state,
    })
}

/// Has what is for elsewhere go where a way out begins.
async fn lead_out(namespace: &NetNamespace, state: &NetworkState) -> Result<(), NetError> {
    let Some(outward) = state.outward() else {
        return Ok(());
    };
    let led = cable::lead_out(namespace, outward).await;
    led.map_err(NetError::kernel("give the container a route"))
}

fn ask_for_names(namespace: &NetNamespace) -> Result<Sockets, NetError> {
    Sockets::open(namespace).map_err(NetError::kernel("serve names in the container"))
}

/// Lets the container into networks by the firewall's rules.
async fn admit(
    links: &Links,
    endpoints: impl Iterator<Item = (&Network, &Endpoint)>,
    state: &NetworkState,
) -> Result<(), NetError> {
    let stations = endpoints.map(|(network, endpoint)| (network, station(endpoint, state)));
    let stations: Vec<_> = stations.collect();
    if let Some(outward) = state.outward()
        && !state.ports.is_empty()
    {
        let name = link_of(outward.address);
        let link = links.find(&name).await;
        let link = link.map_err(NetError::kernel("find the cable"))?;
        if let Some(port) = link {
            let failed = NetError::kernel(format!("set up the bridge's port {name}"));
            links.reflect(port.index).await.map_err(failed)?;
        }
    }
    nft::admit(&stations).map_err(NetError::kernel("set the firewall's rules"))
}

/// The container in one of its networks, with its ports if they lead there.
fn station<'a>(endpoint: &Endpoint, state: &'a NetworkState) -> Station<'a> {
    let carries = state.outward() == Some(endpoint);
    Station::new(endpoint, if carries { &state.ports } else { &[] })
}

fn links() -> Result<Links, NetError> {
    Links::open().map_err(NetError::kernel("talk to the kernel about links"))
}

impl Connection {
    /// What somebody should know of the machine, as it keeps the container from what it
    /// is attached for.
    pub(crate) fn warning(&self, wish: &Wish) -> Option<String> {
        let outward = &self.state.outward()?.network;
        let mut networks = wish.joins.iter().map(|join| &join.network);
        let bridge = &networks.find(|network| network.name == *outward)?.bridge;
        // Whoever cannot be asked is not in the way.
        let obstacle = nft::obstacle(bridge).ok().flatten()?;
        Some(obstacle.advice(bridge))
    }

    /// For whoever asks how the container is attached.
    pub(crate) fn state(&self) -> &NetworkState {
        &self.state
    }
}

/// A container's network. Dropped, it takes the relays of its ports and its name server
/// along; [`Attachment::detach`] takes everything.
#[derive(Debug)]
pub(crate) struct Attachment {
    namespace: NetNamespace,
    state: Rc<RefCell<NetworkState>>,
    relays: Relays,
    directory: Directory,
    names: RefCell<Option<NameServer>>,
    /// Held while the networks change.
    changing: Mutex<()>,
}

impl Attachment {
    /// What is connected, with relays of what is `reserved` for it, and the names that
    /// `directory` knows. To be called within a `LocalSet`.
    pub(crate) fn new(connection: Connection, reserved: Reservation, directory: Directory) -> Self {
        let state = Rc::new(RefCell::new(connection.state));
        let outward = state.borrow().outward().map(|it| it.address);
        let sockets = connection.sockets;
        let names = sockets.map(|it| NameServer::start(it, &directory, &state));
        Self {
            namespace: connection.namespace,
            relays: reserved.relay_to(outward),
            directory,
            names: RefCell::new(names),
            state,
            changing: Mutex::default(),
        }
    }

    /// The container's network namespace.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// For whoever asks how the container is attached.
    pub(crate) fn state(&self) -> NetworkState {
        self.state.borrow().clone()
    }

    /// Attaches the running container to a further network.
    pub(crate) async fn join(&self, join: &Join) -> Result<(), NetError> {
        let _changing = self.changing.lock().await;
        let mut state = self.state();
        let is_free = |name: &String| state.endpoints.iter().all(|it| it.interface != *name);
        let mut names = (0..).map(|index| format!("eth{index}"));
        let interface = names.find(is_free).unwrap_or_default();
        let links = links()?;
        let endpoint = cable::lay(&links, join, &self.namespace, &interface).await?;
        state.endpoints.push(endpoint.clone());
        let joined = self.settle(&links, &join.network, &endpoint, state).await;
        if joined.is_err() {
            // The rules for it, if there are any, go with the next owner of its address.
            let _ = cable::remove(&endpoint).await;
        }
        joined
    }

    async fn settle(
        &self,
        links: &Links,
        network: &Network,
        endpoint: &Endpoint,
        state: NetworkState,
    ) -> Result<(), NetError> {
        admit(links, [(network, endpoint)].into_iter(), &state).await?;
        if network.has_names() && self.names.borrow().is_none() {
            let sockets = ask_for_names(&self.namespace)?;
            let server = NameServer::start(sockets, &self.directory, &self.state);
            self.names.replace(Some(server));
        }
        self.lead_out(&state).await?;
        self.state.replace(state);
        Ok(())
    }

    /// Takes the running container off the network of this name; `None` where it is not
    /// in there. `others` are those that it stays in.
    pub(crate) async fn leave(
        &self,
        name: &str,
        others: &[Network],
    ) -> Result<Option<Endpoint>, NetError> {
        let _changing = self.changing.lock().await;
        let before = self.state();
        let Some(at) = before.endpoints.iter().position(|it| it.network == name) else {
            return Ok(None);
        };
        let mut state = before.clone();
        let left = state.endpoints.remove(at);
        dismiss(&left, &before)
            .await
            .map_err(NetError::kernel("take the container off the network"))?;
        self.state.replace(state.clone());
        // What led through there leads through another one, if there is any.
        if before.outward() == Some(&left)
            && let Some(outward) = state.outward()
            && let Some(network) = others.iter().find(|it| it.name == outward.network)
        {
            admit(&links()?, [(network, outward)].into_iter(), &state).await?;
        }
        self.lead_out(&state).await?;
        Ok(Some(left))
    }

    /// Has the container's way out, and its ports, follow its networks.
    async fn lead_out(&self, state: &NetworkState) -> Result<(), NetError> {
        self.relays.point_to(state.outward().map(|it| it.address));
        lead_out(&self.namespace, state).await
    }

    /// Gives the ports back, at once.
    pub(crate) async fn close(&self) {
        self.relays.close().await;
    }

    /// Takes the container off its networks. What cannot be removed is in nobody's way:
    /// the cables go with the namespace, and a rule with the next owner of the address.
    pub(crate) async fn detach(&self) -> io::Result<()> {
        let _changing = self.changing.lock().await;
        let state = self.state();
        let mut detached = Ok(());
        for endpoint in &state.endpoints {
            detached = detached.and(dismiss(endpoint, &state).await);
        }
        detached
    }
}

/// While the link is there nobody else can have the address, and rules that are theirs
/// cannot be mistaken for these.
async fn dismiss(endpoint: &Endpoint, state: &NetworkState) -> io::Result<()> {
    let dismissed = nft::dismiss(&station(endpoint, state));
    cable::remove(endpoint).await?;
    dismissed
}

/// Removes the rules for a container that has ended without being taken off its
/// networks, unless somebody has its address by now. The next owner of the address
/// or of a port removes them, too, so what fails here is not worth telling.
pub(crate) fn forget(state: &NetworkState) {
    let Ok(taken) = taken() else {
        return;
    };
    for endpoint in &state.endpoints {
        if !taken.contains(&endpoint.address) {
            let _ = nft::dismiss(&station(endpoint, state));
        }
    }
}
