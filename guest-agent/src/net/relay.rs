//! Passing on what comes to a published port of the machine's and that the kernel's
//! rules do not redirect: see [`ports`](super::ports).

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use isolazi_protocol::{ExposedPort, MAX_DATAGRAM, PortProtocol};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

/// After a connection could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that sends no datagram for so long is forgotten, as conntrack does.
const IDLE: Duration = Duration::from_secs(120);
/// So many peers of a UDP port are remembered at once.
const PEERS: usize = 1024;

/// Where a container is, which can change.
type Place = Rc<Cell<Option<Ipv4Addr>>>;

/// Tasks that relay, until this is dropped.
#[derive(Debug)]
pub(super) struct Relays {
    tasks: Vec<JoinHandle<()>>,
    container: Place,
}

/// A port of a container.
#[derive(Debug, Clone)]
struct Target {
    container: Place,
    port: u16,
}

impl Target {
    /// Where the container is now.
    fn address(&self) -> io::Result<SocketAddr> {
        let address = self.container.get();
        let address = address.ok_or(io::ErrorKind::NetworkUnreachable)?;
        Ok(SocketAddr::new(address.into(), self.port))
    }
}

impl Relays {
    /// Those of the container at `address`.
    pub(super) fn to(address: Option<Ipv4Addr>) -> Self {
        Self {
            tasks: Vec::new(),
            container: Rc::new(Cell::new(address)),
        }
    }

    /// The container is there now, for whoever comes from now on.
    pub(super) fn point_to(&self, address: Option<Ipv4Addr>) {
        self.container.set(address);
    }

    /// Relays what comes to `socket` to a port of the container.
    pub(super) fn add(&mut self, target: ExposedPort, socket: OwnedFd) {
        let to = Target {
            container: Rc::clone(&self.container),
            port: target.port,
        };
        self.tasks.push(spawn_local(async move {
            let ended = match target.protocol {
                PortProtocol::Tcp => connections(socket, to).await,
                PortProtocol::Udp => datagrams(socket, to).await,
            };
            if let Err(error) = ended {
                eprintln!("shim: cannot relay port {target}: {error}");
            }
        }));
    }

    /// Ends them, and lets go of the ports.
    pub(super) async fn close(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // A task that is aborted is dropped when it would be its turn.
        tokio::task::yield_now().await;
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn connections(socket: OwnedFd, to: Target) -> io::Result<()> {
    let listener = TcpListener::from_std(socket.into())?;
    let mut going = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    going.spawn_local(connection(client, to.clone()));
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = going.join_next() => {}
        }
    }
}

/// A container that does not listen refuses, so its client is hung up on. Each
/// direction ends by itself.
async fn connection(mut client: TcpStream, to: Target) {
    if let Ok(to) = to.address()
        && let Ok(mut server) = TcpStream::connect(to).await
    {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// A peer of a UDP port, with the socket that stands for it towards the container.
struct Peer {
    socket: Rc<UdpSocket>,
    heard: Rc<Cell<Instant>>,
    answers: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

async fn datagrams(socket: OwnedFd, to: Target) -> io::Result<()> {
    let socket = Rc::new(UdpSocket::from_std(socket.into())?);
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An error is an answer to what was sent before (ICMP), and nobody's end.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if !peers.contains_key(&from) {
            make_room(&mut peers);
            match Peer::new(Rc::clone(&socket), from, &to).await {
                Ok(peer) => drop(peers.insert(from, peer)),
                // As the network does with what it has no room for.
                Err(_) => continue,
            }
        }
        if let Some(peer) = peers.get(&from) {
            peer.heard.set(Instant::now());
            let _ = peer.socket.send(&buffer[..length]).await;
        }
    }
}

/// Forgets who has been silent, and whoever has been so longest if need be.
fn make_room(peers: &mut HashMap<SocketAddr, Peer>) {
    if peers.len() < PEERS {
        return;
    }
    peers.retain(|_, peer| !peer.answers.is_finished());
    if peers.len() >= PEERS
        && let Some((&oldest, _)) = peers.iter().min_by_key(|(_, peer)| peer.heard.get())
    {
        peers.remove(&oldest);
    }
}

impl Peer {
    async fn new(socket: Rc<UdpSocket>, from: SocketAddr, to: &Target) -> io::Result<Self> {
        let towards = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        towards.connect(to.address()?).await?;
        let towards = Rc::new(towards);
        let heard = Rc::new(Cell::new(Instant::now()));
        let answers = answers(Rc::clone(&towards), socket, from, Rc::clone(&heard));
        Ok(Self {
            socket: towards,
            heard,
            answers: spawn_local(answers),
        })
    }
}

/// Passes the container's answers to the peer, until both have long been silent.
async fn answers(
    from: Rc<UdpSocket>,
    through: Rc<UdpSocket>,
    peer: SocketAddr,
    heard: Rc<Cell<Instant>>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match timeout_at(heard.get() + IDLE, from.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                heard.set(Instant::now());
                let _ = through.send_to(&buffer[..length], peer).await;
            }
            // Nobody listens in the container, which may change.
            Ok(Err(_)) => {}
            Err(_) if heard.get().elapsed() < IDLE => {}
            Err(_) => return,
        }
    }
}
