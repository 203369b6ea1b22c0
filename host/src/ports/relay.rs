//! Passing connections and datagrams on, until the ports are given up.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use isolazi_protocol::{ExposedPort, MAX_DATAGRAM, PortProtocol};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::sleep;

use super::Held;
use crate::connection::Raw;

/// Copied at once.
const PIECE: usize = 128 << 10;
/// After a connection could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that sends no datagram for so long is forgotten.
const IDLE: Duration = Duration::from_secs(120);
/// So many peers of a UDP port are remembered at once.
const PEERS: usize = 1024;
/// So many datagrams of a peer wait while its conversation begins, or is slow.
const WAITING: usize = 64;

/// Connects to a port of the container.
pub type Dial = Rc<dyn Fn(ExposedPort) -> LocalBoxFuture<'static, io::Result<Raw>>>;

/// For as many connections and peers as may be relayed at once.
pub type Room = Arc<Semaphore>;

/// Ports that are relayed, until this is dropped.
#[derive(Debug, Default)]
pub struct Relays(Vec<JoinHandle<()>>);

impl Relays {
    /// Relays all that comes to `held`, as far as there is room. To be called within a
    /// `LocalSet`.
    pub fn start(held: Vec<Held>, dial: &Dial, room: &Room) -> Self {
        let relay = |held: Held| {
            let (dial, room) = (Rc::clone(dial), Arc::clone(room));
            spawn_local(async move {
                let target = held.target;
                let ended = match target.protocol {
                    PortProtocol::Tcp => connections(held, dial, room).await,
                    PortProtocol::Udp => datagrams(held, dial, room).await,
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
async fn connections(held: Held, dial: Dial, room: Room) -> io::Result<()> {
    let listener = TcpListener::from_std(held.socket.into())?;
    let mut going = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let place = Arc::clone(&room).acquire_owned().await;
                    let dialed = dial(held.target);
                    going.spawn_local(async move {
                        connection(client, dialed).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = going.join_next() => {}
        }
    }
}

/// A container that cannot be reached hangs up. Each direction ends by itself; one
/// that fails takes the other along.
async fn connection(client: TcpStream, dialed: impl Future<Output = io::Result<Raw>>) {
    let Ok(Raw {
        received,
        reader,
        mut writer,
    }) = dialed.await
    else {
        return;
    };
    let _ = client.set_nodelay(true);
    let (from_client, mut to_client) = client.into_split();
    let inwards = async {
        copy_buf(
            &mut BufReader::with_capacity(PIECE, from_client),
            &mut writer,
        )
        .await?;
        writer.shutdown().await
    };
    let outwards = async {
        to_client.write_all(&received).await?;
        copy_buf(&mut BufReader::with_capacity(PIECE, reader), &mut to_client).await?;
        to_client.shutdown().await
    };
    let _ = tokio::try_join!(inwards, outwards);
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

async fn datagrams(held: Held, dial: Dial, room: Room) -> io::Result<()> {
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
            let talking = peer(queue, Rc::clone(&socket), from, dial(held.target));
            let task = spawn_local(async move {
                let _ = talking.await;
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
    socket: Rc<UdpSocket>,
    peer: SocketAddr,
    dialed: impl Future<Output = io::Result<Raw>>,
) -> io::Result<()> {
    let Raw {
        received,
        reader,
        mut writer,
    } = dialed.await?;
    let mut reader = io::Cursor::new(received).chain(BufReader::with_capacity(PIECE, reader));
    let (spoke, mut heard) = tokio::sync::watch::channel(());
    let outwards = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = usize::from(reader.read_u16().await?);
            reader.read_exact(&mut buffer[..length]).await?;
            spoke.send_replace(());
            let _ = socket.send_to(&buffer[..length], peer).await;
        }
    };
    let inwards = async {
        loop {
            tokio::select! {
                datagram = queue.recv() => match datagram {
                    Some(datagram) => send(&mut writer, &datagram).await?,
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

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, datagram: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(2 + datagram.len());
    whole.extend((datagram.len() as u16).to_be_bytes());
    whole.extend(datagram);
    writer.write_all(&whole).await?;
    writer.flush().await
}
