//! Connections from outside to a published port of a container, by way of a host
//! that has taken them: [`Request::Dial`](isolazi_protocol::Request::Dial).
//!
//! The connection's bytes are those of [`StreamId::Bulk`], each direction of which ends
//! by itself; a datagram of UDP is a frame. Once both directions have ended the client may
//! ask for the next connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use isolazi_protocol::{
    ErrorCode, ExposedPort, Frame, MAX_DATAGRAM, PortProtocol, Reply, Request, ServerMessage,
    StreamId, Transport, TransportError, WireError, decode,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{AnyStream, Engine, await_departure};
use crate::container::ContainerDir;

/// What a container on this machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client wants to be connected to.
#[derive(PartialEq, Eq)]
pub(super) struct Connection {
    /// Id, id prefix or name.
    pub(super) container: String,
    pub(super) target: ExposedPort,
}

/// The container's end of a connection.
enum Dialed {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Where a port that a container publishes was found.
struct Place {
    wanted: Connection,
    dir: ContainerDir,
    /// Of the container's network, which may have changed since.
    version: Option<(u64, SystemTime)>,
    address: Ipv4Addr,
}

impl Place {
    /// The port's, for as long as nothing has changed. The next connection of a
    /// conversation goes there as a rule, so that it is looked up only once.
    fn still_holds(&self, wanted: &Connection) -> bool {
        self.wanted == *wanted && self.dir.is_alive() && self.version == self.dir.network_version()
    }
}

impl Engine {
    /// Connects to a port that a container publishes, found where it was `last`.
    async fn dial(
        &self,
        wanted: Connection,
        last: &mut Option<Place>,
    ) -> Result<Dialed, WireError> {
        let place = match last.take().filter(|place| place.still_holds(&wanted)) {
            Some(place) => place,
            None => self.published(wanted)?,
        };
        let place = last.insert(place);
        let target = place.wanted.target;
        let to = SocketAddr::new(place.address.into(), target.port);
        let connected = async {
            match target.protocol {
                PortProtocol::Tcp => TcpStream::connect(to).await.map(Dialed::Tcp),
                PortProtocol::Udp => {
                    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
                    socket.connect(to).await?;
                    Ok(Dialed::Udp(socket))
                }
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connected).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| {
                let container = &place.wanted.container;
                let message =
                    format!("cannot reach port {target} of container {container}: {error}");
                WireError::new(ErrorCode::Conflict, message)
            })
    }

    /// Where a container that publishes the port is.
    fn published(&self, wanted: Connection) -> Result<Place, WireError> {
        let dir = self.containers.find(&wanted.container)?;
        // Before it is read: a change in between is then noticed the next time.
        let version = dir.network_version();
        // Its state is left unread: the lock says enough.
        let network = dir.is_alive().then(|| dir.last_network()).flatten();
        let network = network.unwrap_or_default();
        let is_published = network
            .ports
            .iter()
            .any(|port| port.target == wanted.target);
        match network.outward() {
            Some(endpoint) if is_published => Ok(Place {
                address: endpoint.address,
                wanted,
                dir,
                version,
            }),
            _ => {
                let Connection { container, target } = wanted;
                let message = format!("container {container} does not publish port {target}");
                Err(WireError::new(ErrorCode::NotFound, message))
            }
        }
    }
}

/// Serves the connection that `first` asks for, and those that the client then asks
/// for in the same conversation, which saves it all that comes before a request.
pub(super) async fn serve(
    client: Transport<AnyStream>,
    greeting: BytesMut,
    first: Connection,
    engine: &Engine,
) -> Result<(), TransportError> {
    let (mut reader, mut writer) = client.split();
    let (mut words, mut place, mut wanted) = (greeting, None, Some(first));
    while let Some(connection) = wanted {
        let dialed = engine.dial(connection, &mut place).await;
        let reply = dialed.as_ref().map(|_| Reply::Done).map_err(Clone::clone);
        Frame::control(&ServerMessage::Reply(reply))?.put(&mut words)?;
        let is_free = match dialed {
            Ok(Dialed::Tcp(to)) => {
                let ended = bytes(&mut reader, &mut writer, &mut words, to).await;
                ended.is_ok()
            }
            Ok(Dialed::Udp(to)) => {
                writer.send_raw(&words).await?;
                let _ = datagrams(&mut reader, &mut writer, &to).await;
                false
            }
            Err(_) => {
                writer.send_raw(&words).await?;
                false
            }
        };
        if !is_free {
            // What has been sent still arrives.
            let _ = writer.into_parts().0.shutdown().await;
            await_departure(&mut reader.into_parts().0).await;
            return Ok(());
        }
        wanted = next(&mut reader).await?;
    }
    Ok(())
}

/// The next connection that the client asks for, unless it goes.
async fn next<R>(client: &mut Transport<R>) -> Result<Option<Connection>, TransportError>
where
    R: AsyncRead + Unpin,
{
    match client.receive().await? {
        None => Ok(None),
        Some(Frame::Control(request)) => match decode(&request)? {
            Request::Dial { container, target } => Ok(Some(Connection { container, target })),
            _ => Err(TransportError::OutOfTurn),
        },
        Some(Frame::Data(..)) => Err(TransportError::OutOfTurn),
    }
}

/// Passes bytes on until both directions have ended. One that fails takes the other
/// along. What `words` has goes along with the first bytes: whoever says nothing before it
/// hears the reply would gain nothing by one of its own.
async fn bytes<R, W>(
    from: &mut Transport<R>,
    towards: &mut Transport<W>,
    words: &mut BytesMut,
    mut to: TcpStream,
) -> Result<(), TransportError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let _ = to.set_nodelay(true);
    let (mut answers, mut questions) = to.split();
    let inwards = async {
        from.receive_stream(StreamId::Bulk, &mut questions).await?;
        let _ = questions.shutdown().await;
        Ok(())
    };
    let outwards = towards.send_stream(StreamId::Bulk, words, &mut answers);
    tokio::try_join!(inwards, outwards).map(drop)
}

/// Passes datagrams on, each in a frame of its own, until the client goes.
async fn datagrams<R, W>(
    from: &mut Transport<R>,
    towards: &mut Transport<W>,
    to: &UdpSocket,
) -> Result<(), TransportError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let inwards = async {
        loop {
            match from.receive().await? {
                Some(Frame::Data(StreamId::Bulk, datagram)) => {
                    // One that nobody takes is lost, as datagrams are.
                    let _ = to.send(&datagram).await;
                }
                Some(_) => return Err(TransportError::OutOfTurn),
                None => return Err(TransportError::Closed),
            }
        }
    };
    let outwards = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An error says that nobody listens in there, which may change.
            let Ok(length) = to.recv(&mut buffer).await else {
                continue;
            };
            let datagram = Bytes::copy_from_slice(&buffer[..length]);
            towards.send(&Frame::Data(StreamId::Bulk, datagram)).await?;
        }
    };
    // They end with the client.
    tokio::select! {
        ended = inwards => ended,
        ended = outwards => ended,
    }
}
