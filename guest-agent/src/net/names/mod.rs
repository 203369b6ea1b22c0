//! Names of containers, for containers: a name server in each network namespace that is
//! in a network of the user's, served by the container's shim.
//!
//! ```text
//!  container ─► 127.0.0.11:53 ─ nft ─► a port of the shim's, in there
//!                                        │
//!                 a name of its networks ┼─ yes ─► the members' addresses
//!                                        └─ no ──► the machine's own servers
//! ```
//!
//! Port 53 stays free in the container, so that it can serve names itself.

mod answer;
mod directory;
mod upstream;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use isolazi_protocol::{NetworkState, PortProtocol};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

pub(crate) use self::directory::{Directory, HOST_NAMES};
pub(crate) use self::upstream::Upstream;
use super::namespace::NetNamespace;
use super::nft;

/// Where containers ask for names, as with Docker.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;

/// Longest query by UDP that is read; longer ones come by TCP.
const LONGEST_QUERY: usize = 4096;
/// So many queries, and connections, may be under way; more are not answered.
const AT_ONCE: usize = 256;
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// After a connection could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 64;

/// Where a container's queries arrive.
#[derive(Debug)]
pub(super) struct Sockets {
    udp: StdUdpSocket,
    tcp: StdTcpListener,
}

impl Sockets {
    /// Those of a container, whose queries are redirected to them.
    pub(super) fn open(namespace: &NetNamespace) -> io::Result<Self> {
        namespace.within(|| {
            let udp = StdUdpSocket::from(bound(SockType::Datagram)?);
            let tcp = bound(SockType::Stream)?;
            listen(&tcp, Backlog::new(BACKLOG)?)?;
            let tcp = StdTcpListener::from(tcp);
            let ports = [
                (PortProtocol::Udp, udp.local_addr()?.port()),
                (PortProtocol::Tcp, tcp.local_addr()?.port()),
            ];
            nft::redirect_within(SocketAddrV4::new(ADDRESS, PORT), ports)?;
            Ok(Self { udp, tcp })
        })?
    }
}

fn bound(kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    // The loopback interface comes up with the container's first process.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    let address = SockaddrIn::from(SocketAddrV4::new(ADDRESS, 0));
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Tasks that answer, until this is dropped.
#[derive(Debug)]
pub(super) struct NameServer(Vec<JoinHandle<()>>);

impl NameServer {
    /// Answers a container that is in the networks of `state`. To be called within a
    /// `LocalSet`.
    pub(super) fn start(
        sockets: Sockets,
        directory: &Directory,
        state: &Rc<RefCell<NetworkState>>,
    ) -> Self {
        let server = Rc::new(Server {
            directory: directory.clone(),
            state: Rc::clone(state),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        });
        let by_udp = Rc::clone(&server).serve_udp(sockets.udp);
        let by_tcp = server.serve_tcp(sockets.tcp);
        let complain = |ended: io::Result<()>| {
            if let Err(error) = ended {
                eprintln!("shim: cannot serve names: {error}");
            }
        };
        Self(vec![
            spawn_local(async move { complain(by_udp.await) }),
            spawn_local(async move { complain(by_tcp.await) }),
        ])
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// How a query came, and how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Udp,
    Tcp,
}

struct Server {
    directory: Directory,
    state: Rc<RefCell<NetworkState>>,
    room: Arc<Semaphore>,
}

impl Server {
    async fn serve_udp(self: Rc<Self>, socket: StdUdpSocket) -> io::Result<()> {
        let socket = Rc::new(UdpSocket::from_std(socket)?);
        let mut buffer = vec![0; LONGEST_QUERY];
        loop {
            // An error is an answer to what was sent before (ICMP), and nobody's end.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            // Whoever is not answered asks again.
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
                continue;
            };
            let (server, socket) = (Rc::clone(&self), Rc::clone(&socket));
            let query = buffer[..length].to_vec();
            spawn_local(async move {
                if let Some(answer) = server.answer(&query, Carrier::Udp).await {
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(place);
            });
        }
    }

    async fn serve_tcp(self: Rc<Self>, listener: StdTcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((client, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
                continue;
            };
            let server = Rc::clone(&self);
            spawn_local(async move {
                // It ends when the client does, breaks off, or says nothing more.
                let _ = server.converse(client).await;
                drop(place);
            });
        }
    }

    /// Each message comes after its length (RFC 1035, 4.2.2).
    async fn converse(&self, mut client: TcpStream) -> io::Result<()> {
        loop {
            let length = timeout(IDLE, client.read_u16()).await??;
            let mut query = vec![0; length.into()];
            timeout(IDLE, client.read_exact(&mut query)).await??;
            let Some(answer) = self.answer(&query, Carrier::Tcp).await else {
                return Ok(());
            };
            timeout(IDLE, upstream::send_framed(&mut client, &answer)).await??;
        }
    }

    /// The answer to a query; none where that is no query.
    async fn answer(&self, query: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
        let question = match answer::read(query) {
            Ok(question) => question,
            Err(refusal) => return refusal,
        };
        let state = self.state.borrow().clone();
        if let Some(found) = self.directory.resolve(&question, &state) {
            return question.answer(&found, carrier);
        }
        if state.outward().is_none() {
            return question.unknown();
        }
        let forwarded = self.directory.upstream().ask(query, carrier).await;
        forwarded.or_else(|| question.failed())
    }
}
