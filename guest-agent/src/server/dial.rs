//! Connections from outside to a published port of a container, by way of a host
//! that has taken them: [`Request::Dial`](isolazi_protocol::Request::Dial).
//!
//! After the reply the conversation is the connection itself: TCP's bytes, each
//! direction of which ends by itself; UDP's datagrams, each after its length.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use isolazi_protocol::{
    ErrorCode, ExposedPort, MAX_DATAGRAM, PortProtocol, Reply, Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::sessions::copy;
use super::{Engine, answer};

/// What a container on this machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The container's end of a connection.
pub(super) enum Dialed {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Engine {
    /// Connects to a port that the container publishes.
    pub(super) async fn dial(
        &self,
        container: &str,
        target: ExposedPort,
    ) -> Result<Dialed, WireError> {
        let address = self.published(container, target)?;
        let to = SocketAddr::new(address.into(), target.port);
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
                let message =
                    format!("cannot reach port {target} of container {container}: {error}");
                WireError::new(ErrorCode::Conflict, message)
            })
    }

    /// The address of a container that publishes the port.
    fn published(&self, container: &str, target: ExposedPort) -> Result<Ipv4Addr, WireError> {
        let dir = self.containers.find(container)?;
        // Every connection asks this, so its state is left unread: the lock says enough.
        let network = dir.is_alive().then(|| dir.last_network()).flatten();
        let network = network.unwrap_or_default();
        let is_published = network.ports.iter().any(|port| port.target == target);
        match network.outward() {
            Some(endpoint) if is_published => Ok(endpoint.address),
            _ => {
                let message = format!("container {container} does not publish port {target}");
                Err(WireError::new(ErrorCode::NotFound, message))
            }
        }
    }
}

/// Says that the connection is there, and passes on until it has ended.
pub(super) async fn relay<S>(
    mut client: Transport<S>,
    greeting: BytesMut,
    to: Dialed,
) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    answer(&mut client, greeting, Ok(Reply::Done)).await?;
    let (stream, received) = client.into_parts();
    let (from, towards) = tokio::io::split(stream);
    let from = io::Cursor::new(received).chain(from);
    match to {
        Dialed::Tcp(to) => bytes(from, towards, to).await,
        Dialed::Udp(to) => datagrams(from, towards, &to).await,
    }
    Ok(())
}

async fn bytes<R, W>(mut from: R, mut towards: W, to: TcpStream)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let _ = to.set_nodelay(true);
    let (mut answers, mut questions) = to.into_split();
    let inwards = async {
        let copied = copy(&mut from, &mut questions).await;
        let _ = questions.shutdown().await;
        copied.map(drop)
    };
    let outwards = async {
        let copied = copy(&mut answers, &mut towards).await;
        let _ = towards.shutdown().await;
        copied.map(drop)
    };
    // A direction that fails takes the other one along.
    let _ = tokio::try_join!(inwards, outwards);
}

async fn datagrams<R, W>(mut from: R, mut towards: W, to: &UdpSocket)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let inwards = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = usize::from(from.read_u16().await?);
            from.read_exact(&mut buffer[..length]).await?;
            // One that nobody takes is lost, as datagrams are.
            let _ = to.send(&buffer[..length]).await;
        }
    };
    let outwards = async {
        let mut buffer = vec![0; 2 + MAX_DATAGRAM];
        loop {
            // An error says that nobody listens in there, which may change.
            let Ok(length) = to.recv(&mut buffer[2..]).await else {
                continue;
            };
            buffer[..2].copy_from_slice(&(length as u16).to_be_bytes());
            towards.write_all(&buffer[..2 + length]).await?;
            towards.flush().await?;
        }
    };
    // They end with the client.
    tokio::select! {
        Err::<Infallible, io::Error>(_) = inwards => {}
        Err::<Infallible, io::Error>(_) = outwards => {}
    }
}
