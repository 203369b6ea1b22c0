//! Ports of another network namespace's: who is in there binds them, and hands the
//! sockets over. A socket stays in the namespace that it was made in, so what is
//! accepted from it here are connections that came there.
//!
//! ```text
//!  shim ── a request ──► broker   SOCK_SEQPACKET, JSON
//!       ◄─ what it got ─          or why it got nothing
//!       ◄─ socket ───── …         one message for each
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use isolazi_protocol::{PortRequest, PublishedPort, WireError};
use nix::errno::Errno;

use super::error::NetError;
use super::ports::{Reservation, Taken, take};
use crate::sys::channel;

/// Most bytes of a message.
const LONGEST: usize = 4 << 10;
/// What the broker may take, which does not have to think.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said to a request, before the sockets.
type Answer = Result<Vec<PublishedPort>, WireError>;

/// Answers a request of a caller's that has said something, or has hung up: then `false`.
/// Keeps nothing.
pub(crate) fn answer(caller: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0; LONGEST];
    let length = channel::receive(caller, &mut buffer)?.length;
    if length == 0 {
        return Ok(false);
    }
    let request: PortRequest = serde_json::from_slice(&buffer[..length])?;
    hand_over(caller, take(&request))?;
    Ok(true)
}

fn hand_over(caller: BorrowedFd<'_>, taken: Result<Taken, NetError>) -> io::Result<()> {
    let (answer, sockets): (Answer, Vec<OwnedFd>) = match taken {
        Ok(taken) => {
            let (ports, sockets) = taken.into_iter().unzip();
            (Ok(ports), sockets)
        }
        Err(error) => (Err(error.into()), Vec::new()),
    };
    channel::send(caller, &serde_json::to_vec(&answer)?, None)?;
    for socket in sockets {
        channel::send(caller, &[0], Some(socket.as_fd()))?;
    }
    Ok(())
}

/// Has the broker at `path` take all ports that are asked for, or none.
pub(super) fn reserve(path: &Path, requests: &[PortRequest]) -> Result<Reservation, NetError> {
    if requests.is_empty() {
        return Ok(Reservation::default());
    }
    let broker = call(path).map_err(NetError::NoBroker)?;
    let mut all = Taken::new();
    for request in requests {
        let answer = ask_for(broker.as_fd(), request).map_err(NetError::NoBroker)?;
        all.extend(answer.map_err(NetError::Told)?);
    }
    Ok(all.into())
}

/// By way of the folder's descriptor: a socket's address has 108 bytes (unix(7)).
fn call(path: &Path) -> io::Result<OwnedFd> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    let broker = channel::call(&short.join(name))?;
    channel::set_patience(broker.as_fd(), PATIENCE)?;
    Ok(broker)
}

fn ask_for(broker: BorrowedFd<'_>, request: &PortRequest) -> io::Result<Result<Taken, WireError>> {
    channel::send(broker, &serde_json::to_vec(request)?, None)?;
    let mut buffer = [0; LONGEST];
    let length = channel::receive(broker, &mut buffer)?.length;
    if length == 0 {
        return Err(Errno::ECONNRESET.into());
    }
    let ports = match serde_json::from_slice(&buffer[..length])? {
        Answer::Ok(ports) => ports,
        Answer::Err(refusal) => return Ok(Err(refusal)),
    };
    let with_socket = |port| {
        let received = channel::receive(broker, &mut [0])?;
        // One that does not come has had no room here.
        let socket = received.descriptor.ok_or(Errno::EMFILE)?;
        Ok((port, socket))
    };
    ports
        .into_iter()
        .map(with_socket)
        .collect::<io::Result<_>>()
        .map(Ok)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use isolazi_protocol::{ExposedPort, PortProtocol};

    use super::*;

    fn request(host_port: Option<u16>) -> PortRequest {
        PortRequest {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            host_port,
            target: ExposedPort {
                port: 80,
                protocol: PortProtocol::Tcp,
            },
        }
    }

    /// Takes ports through a broker that has one caller.
    fn through(requests: &[PortRequest]) -> Result<Reservation, NetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.sock");
        let listener = channel::listen_at(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let caller = channel::accept(listener.as_fd()).unwrap();
                while answer(caller.as_fd()).unwrap() {}
            });
            reserve(&path, requests)
        })
    }

    #[test]
    fn sockets_come_with_their_ports_and_go_with_them() {
        let held = through(&[request(None), request(None)]).unwrap();
        let ports: Vec<u16> = held.ports().iter().map(|it| it.host_port).collect();
        assert_eq!(ports.len(), 2);
        for port in &ports {
            TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).unwrap();
        }
        drop(held);
        TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).unwrap_err();
        TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).unwrap_err();
    }

    #[test]
    fn a_refusal_is_the_brokers_own() {
        let held = Reservation::of(&[request(None)]).unwrap();
        let taken = request(Some(held.ports()[0].host_port));
        let direct = Reservation::of(&[taken]).unwrap_err();
        let told = through(&[request(None), taken]).unwrap_err();
        assert_eq!(told.to_string(), direct.to_string());
        let (told, direct) = (WireError::from(told), WireError::from(direct));
        assert_eq!(told, direct);
    }

    #[test]
    fn nobody_there_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.sock");
        drop(channel::listen_at(&path).unwrap());
        let error = reserve(&path, &[request(None)]).unwrap_err();
        assert!(matches!(error, NetError::NoBroker(_)), "{error}");
        // Who wants no ports needs nobody.
        reserve(&path, &[]).unwrap();
    }
}
