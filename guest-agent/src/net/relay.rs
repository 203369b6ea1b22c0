//! Passing on what comes to a published port of the machine's and that the kernel's
//! rules do not redirect: see [`ports`](super::ports).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::datagram::{Port, Way};
use isolazi_protocol::{ExposedPort, MAX_DATAGRAM, PortProtocol};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

/// After a connection could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that sends no datagram for so long is forgotten, as conntrack does.
const IDLE: Duration = Duration::from_secs(120);
/// So many peers of a UDP port are remembered at once.
const PEERS: usize = 1024;

/// So many descriptors are for whatever else the process does, if it may have twice as
/// many.
const SPARE: usize = 256;

/// Descriptors that are left to relays.
type Room = Arc<Semaphore>;

/// Where a container is, which can change.
type Place = Rc<Cell<Option<Ipv4Addr>>>;

/// Tasks that relay, until this is dropped.
#[derive(Debug)]
pub(super) struct Relays {
    tasks: RefCell<Vec<JoinHandle<()>>>,
    container: Place,
    room: Room,
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
    /// Those of the container at `address`. Together they take no more descriptors than
    /// the process can do without.
    pub(super) fn to(address: Option<Ipv4Addr>) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let room = limit - SPARE.min(limit / 2);
        Self {
            tasks: RefCell::default(),
            container: Rc::new(Cell::new(address)),
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The container is there now, for whoever comes from now on.
    pub(super) fn point_to(&self, address: Option<Ipv4Addr>) {
        self.container.set(address);
    }

    /// Relays what comes to `socket` to a port of the container.
    pub(super) fn add(&self, target: ExposedPort, socket: OwnedFd) {
        let to = Target {
            container: Rc::clone(&self.container),
            port: target.port,
        };
        self.room.forget_permits(1);
        let room = Arc::clone(&self.room);
        let task = spawn_local(async move {
            let ended = match target.protocol {
                PortProtocol::Tcp => connections(socket, to, room).await,
                PortProtocol::Udp => datagrams(socket, to, room).await,
            };
            if let Err(error) = ended {
                eprintln!("shim: cannot relay port {target}: {error}");
            }
        });
        self.tasks.borrow_mut().push(task);
    }

    /// Ends them, and lets go of the ports: a task that is aborted is dropped only when it
    /// would be its turn.
    pub(super) async fn close(&self) {
        for task in self.tasks.take() {
            task.abort();
            // It says that it was told to end.
            let _ = task.await;
        }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.tasks.take().iter().for_each(JoinHandle::abort);
    }
}

/// Further connections wait with the kernel while there is no room.
async fn connections(socket: OwnedFd, to: Target, room: Room) -> io::Result<()> {
    let listener = TcpListener::from_std(socket.into())?;
    let mut going = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let both = Arc::clone(&room).acquire_many_owned(2).await;
                    let to = to.clone();
                    going.spawn_local(async move {
                        connection(client, to).await;
                        drop(both);
                    });
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
    _room: OwnedSemaphorePermit,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

async fn datagrams(socket: OwnedFd, to: Target, room: Room) -> io::Result<()> {
    let socket = Rc::new(Port::new(socket)?);
    let mut peers: HashMap<Way, Peer> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An error is an answer to what was sent before (ICMP), and nobody's end.
        let Ok((length, from)) = socket.receive(&mut buffer).await else {
            continue;
        };
        if !peers.contains_key(&from) {
            // What there is no room for is lost, as in any network.
            let Some(room) = make_room(&mut peers, &room) else {
                continue;
            };
            match Peer::new(Rc::downgrade(&socket), from, &to, room).await {
                Ok(peer) => drop(peers.insert(from, peer)),
                Err(_) => continue,
            }
        }
        if let Some(peer) = peers.get(&from) {
            peer.heard.set(Instant::now());
            let _ = peer.socket.send(&buffer[..length]).await;
        }
    }
}

/// Room for one more peer. Forgets who has been silent, and whoever has been so longest
/// if need be.
fn make_room(peers: &mut HashMap<Way, Peer>, room: &Room) -> Option<OwnedSemaphorePermit> {
    let is_full = |count| count >= PEERS || room.available_permits() == 0;
    if is_full(peers.len()) {
        peers.retain(|_, peer| !peer.answers.is_finished());
    }
    if is_full(peers.len())
        && let Some((&oldest, _)) = peers.iter().min_by_key(|(_, peer)| peer.heard.get())
    {
        peers.remove(&oldest);
    }
    Arc::clone(room).try_acquire_owned().ok()
}

impl Peer {
    async fn new(
        socket: Weak<Port>,
        from: Way,
        to: &Target,
        room: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let towards = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        towards.connect(to.address()?).await?;
        let towards = Rc::new(towards);
        let heard = Rc::new(Cell::new(Instant::now()));
        let answers = answers(Rc::clone(&towards), socket, from, Rc::clone(&heard));
        Ok(Self {
            socket: towards,
            heard,
            answers: spawn_local(answers),
            _room: room,
        })
    }
}

/// Passes the container's answers to the peer, until both have long been silent, or the
/// port is given up.
async fn answers(from: Rc<UdpSocket>, through: Weak<Port>, peer: Way, heard: Rc<Cell<Instant>>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match timeout_at(heard.get() + IDLE, from.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                let Some(through) = through.upgrade() else {
                    return;
                };
                heard.set(Instant::now());
                let _ = through.answer(&buffer[..length], &peer).await;
            }
            // Nobody listens in the container, which may change.
            Ok(Err(_)) => {}
            Err(_) if heard.get().elapsed() < IDLE => {}
            Err(_) => return,
        }
    }
}
