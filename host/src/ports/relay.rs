//! Passing connections and datagrams on, until the ports are given up.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use isolazi_protocol::{ExposedPort, Frame, MAX_DATAGRAM, PortProtocol, StreamId};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::sleep;

use super::{Held, Line};
use crate::connection::ConversationError;
use crate::engine::EngineError;

/// After a connection could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that sends no datagram for so long is forgotten.
const IDLE: Duration = Duration::from_secs(120);
/// So many peers of a UDP port are remembered at once.
const PEERS: usize = 1024;
/// So many datagrams of a peer wait while its conversation begins, or is slow.
const WAITING: usize = 64;

/// Leads to a container.
pub trait Way {
    /// Asks for a connection to one of its ports.
    fn dial(&self, target: ExposedPort) -> LocalBoxFuture<'_, Result<Line, EngineError>>;

    /// Takes a line that is free again.
    fn keep(&self, line: Line);
}

/// For as many connections and peers as may be relayed at once.
pub type Room = Arc<Semaphore>;

/// Ports that are relayed, until this is dropped.
#[derive(Debug, Default)]
pub struct Relays(Vec<JoinHandle<()>>);

impl Relays {
    /// Relays all that comes to `held`, as far as there is room. To be called within a
    /// `LocalSet`.
    pub fn start(held: Vec<Held>, way: &Rc<dyn Way>, room: &Room) -> Self {
        let relay = |held: Held| {
            let (way, room) = (Rc::clone(way), Arc::clone(room));
            spawn_local(async move {
                let target = held.target;
                let ended = match target.protocol {
                    PortProtocol::Tcp => connections(held, way, room).await,
                    PortProtocol::Udp => datagrams(held, way, room).await,
                };
                if let Err(error) = ended {
                    crate::output::failure(&format!("cannot relay port {target}: {error}"));
                }
            })
        };
        Self(held.into_iter().map(relay).collect())
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Further connections wait with the kernel while there is no room.
async fn connections(held: Held, way: Rc<dyn Way>, room: Room) -> io::Result<()> {
    let listener = TcpListener::from_std(held.socket.into())?;
    let mut going = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let place = Arc::clone(&room).acquire_owned().await;
                    let way = Rc::clone(&way);
                    going.spawn_local(async move {
                        connection(client, held.target, &*way).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = going.join_next() => {}
        }
    }
}

/// A container that cannot be reached hangs up.
async fn connection(mut client: TcpStream, target: ExposedPort, way: &dyn Way) {
    let Ok(mut line) = way.dial(target).await else {
        return;
    };
    if line.connect(&mut client).await.is_ok() {
        way.keep(line);
    }
}

/// A peer of a UDP port: what it sends goes to the task that is its conversation.
struct Peer {
    datagrams: mpsc::Sender<Bytes>,
    task: JoinHandle<()>,
    /// When it last sent something.
    heard: Instant,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn datagrams(held: Held, way: Rc<dyn Way>, room: Room) -> io::Result<()> {
    let socket = Rc::new(UdpSocket::from_std(held.socket.into())?);
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An error is an answer to what was sent before (ICMP), and nobody's end.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if peers.get(&from).is_none_or(|peer| peer.task.is_finished()) {
            peers.retain(|_, peer| !peer.task.is_finished());
            if peers.len() >= PEERS {
                // As conntrack does: whoever has been silent longest makes room.
                let silent = peers.iter().min_by_key(|(_, peer)| peer.heard);
                let silent = silent.map(|(address, _)| *address);
                silent.and_then(|address| peers.remove(&address));
            }
            let place = Arc::clone(&room).try_acquire_owned();
            let Ok(place) = place else {
                // As the network does with what it has no room for.
                continue;
            };
            let (datagrams, queue) = mpsc::channel(WAITING);
            let (socket, way) = (Rc::clone(&socket), Rc::clone(&way));
            let task = spawn_local(async move {
                if let Ok(line) = way.dial(held.target).await {
                    let _ = peer(queue, &socket, from, line).await;
                }
                drop(place);
            });
            let heard = Instant::now();
            let peer = Peer {
                datagrams,
                task,
                heard,
            };
            peers.insert(from, peer);
        }
        if let Some(peer) = peers.get_mut(&from) {
            peer.heard = Instant::now();
            // One too many is lost, as datagrams are.
            let _ = peer
                .datagrams
                .try_send(Bytes::copy_from_slice(&buffer[..length]));
        }
    }
}

/// Talks for a peer until both sides have long been silent.
async fn peer(
    mut queue: mpsc::Receiver<Bytes>,
    socket: &UdpSocket,
    peer: SocketAddr,
    line: Line,
) -> Result<(), ConversationError> {
    let (mut listener, mut speaker) = line.split();
    let (spoke, mut heard) = tokio::sync::watch::channel(());
    let outwards = async {
        listener.connected().await?;
        loop {
            let datagram = listener.datagram().await?;
            spoke.send_replace(());
            let _ = socket.send_to(&datagram, peer).await;
        }
    };
    let inwards = async {
        loop {
            tokio::select! {
                datagram = queue.recv() => match datagram {
                    Some(datagram) => speaker.send(&Frame::Data(StreamId::Bulk, datagram)).await?,
                    None => return Ok(()),
                },
                _ = heard.changed() => {}
                () = sleep(IDLE) => return Ok(()),
            }
        }
    };
    tokio::select! {
        ended = outwards => ended,
        ended = inwards => ended,
    }
}
