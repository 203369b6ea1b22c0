//! Passing queries on to the servers that the machine itself asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use isolazi_protocol::resolv_conf::servers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Carrier, LONGEST_QUERY, PORT};

/// What a server gets to answer before the next one is asked, and one in all: resolvers
/// ask again after five seconds as a rule.
const PATIENCE: Duration = Duration::from_millis(1500);
/// At most so many are asked, as resolv.conf(5) has it.
const MOST: usize = 3;
/// Bytes of a message's header.
const HEADER: usize = 12;

/// The servers that a container's queries go to.
#[derive(Debug)]
pub(crate) struct Upstream {
    given: Vec<IpAddr>,
    follows: bool,
}

impl Upstream {
    /// Those that `resolv_conf` names. With `follows` those that the machine asks at the
    /// time, where it asks any.
    pub(crate) fn new(resolv_conf: &str, follows: bool) -> Self {
        Self {
            given: servers(resolv_conf),
            follows,
        }
    }

    /// What the first server that answers says.
    pub(super) async fn ask(&self, query: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
        for server in self.servers().into_iter().take(MOST) {
            let server = SocketAddr::new(server, PORT);
            let asked = async {
                match carrier {
                    Carrier::Udp => by_udp(server, query).await,
                    Carrier::Tcp => by_tcp(server, query).await,
                }
            };
            if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
        None
    }

    fn servers(&self) -> Vec<IpAddr> {
        let followed = self
            .follows
            .then(|| std::fs::read_to_string("/etc/resolv.conf").ok())
            .flatten()
            .map(|text| servers(&text))
            .filter(|servers| !servers.is_empty());
        followed.unwrap_or_else(|| self.given.clone())
    }
}

/// From a port of its own, so that nobody else can guess where the answer is waited for.
async fn by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX).max(LONGEST_QUERY)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    send_framed(&mut stream, query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    match answers(query, &answer) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends a message after its length (RFC 1035, 4.2.2).
pub(super) async fn send_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), message].concat())
        .await
}

/// Whether `answer` is one, and to this query: its id and the response bit say so.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    answer.len() >= HEADER && answer[..2] == query[..2] && answer[2] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_querys_id() {
        let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut answer = query;
        assert!(!answers(&query, &answer), "a query");
        answer[2] |= 0x80;
        assert!(answers(&query, &answer));
        assert!(!answers(&query, &answer[..11]));
        answer[1] = 3;
        assert!(!answers(&query, &answer));
    }
}
