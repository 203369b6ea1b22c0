//! Taking ports, all that are asked for or none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use isolazi_protocol::{ExposedPort, PortProtocol, PortRequest};
use socket2::{Domain, Protocol, Socket, Type};

/// So many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// A free port of one family may be taken in the other.
const ATTEMPTS: usize = 32;

/// A port that is held.
#[derive(Debug)]
pub struct Held {
    /// Where it leads.
    pub target: ExposedPort,
    pub(super) socket: Socket,
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else has it.
    #[error("port {port}/{} is already in use on {}; choose another with -p", .protocol.name(), place(.address))]
    Taken {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// On which address.
        address: IpAddr,
    },
    /// It is for root only.
    #[error("port {port}/{} is one that only root may publish; choose {first} or above with -p, or allow it with: sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}", .protocol.name())]
    OfRoot {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// The first one that everybody may publish.
        first: u16,
    },
    /// This host does not have the address.
    #[error("cannot publish port {target} on {address}: this host has no such address")]
    NoSuchAddress {
        /// Which.
        address: IpAddr,
        /// The container's port.
        target: ExposedPort,
    },
    /// Anything else.
    #[error("cannot publish port {port}/{} on {}", .protocol.name(), place(.address))]
    Other {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// On which address.
        address: IpAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn place(address: &IpAddr) -> String {
    match address.is_unspecified() {
        true => "this host".to_owned(),
        false => address.to_string(),
    }
}

/// Takes the ports. Those that were left to us are chosen in what is returned.
pub fn hold(requests: &[PortRequest]) -> Result<(Vec<PortRequest>, Vec<Held>), PortError> {
    let mut settled = Vec::new();
    let mut held = Vec::new();
    for request in requests {
        let (port, sockets) = take(request)?;
        settled.push(PortRequest {
            host_port: Some(port),
            ..*request
        });
        let target = request.target;
        held.extend(sockets.into_iter().map(|socket| Held { target, socket }));
    }
    Ok((settled, held))
}

fn take(request: &PortRequest) -> Result<(u16, Vec<Socket>), PortError> {
    let wanted = request.host_port.unwrap_or_default();
    if let Some(address) = request.address {
        let (port, socket) = take_at(request.target, address, wanted)?;
        return Ok((port, vec![socket]));
    }
    let mut attempt = 1;
    loop {
        let (port, four) = take_at(request.target, Ipv4Addr::UNSPECIFIED.into(), wanted)?;
        match take_at(request.target, Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok((_, six)) => return Ok((port, vec![four, six])),
            // A host without IPv6 has nothing to publish there.
            Err(PortError::NoSuchAddress { .. }) => return Ok((port, vec![four])),
            Err(PortError::Taken { .. }) if wanted == 0 && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn take_at(target: ExposedPort, address: IpAddr, port: u16) -> Result<(u16, Socket), PortError> {
    let protocol = target.protocol;
    let taken = bind(SocketAddr::new(address, port), protocol);
    taken.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::Taken {
            port,
            protocol,
            address,
        },
        io::ErrorKind::PermissionDenied if port < first_of_everybody() => PortError::OfRoot {
            port,
            protocol,
            first: first_of_everybody(),
        },
        io::ErrorKind::AddrNotAvailable => PortError::NoSuchAddress { address, target },
        io::ErrorKind::Unsupported if address.is_ipv6() => {
            PortError::NoSuchAddress { address, target }
        }
        _ if is_unknown_family(&source) => PortError::NoSuchAddress { address, target },
        _ => PortError::Other {
            port,
            protocol,
            address,
            source,
        },
    })
}

/// Linux can tell (ip(7)); elsewhere those below may be everybody's.
fn first_of_everybody() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let number = text.ok().and_then(|text| text.trim().parse().ok());
    number.unwrap_or(0)
}

/// `EAFNOSUPPORT`, for which there is no kind.
fn is_unknown_family(error: &io::Error) -> bool {
    #[cfg(unix)]
    let number = nix::libc::EAFNOSUPPORT;
    #[cfg(windows)]
    let number = 10_047;
    error.raw_os_error() == Some(number)
}

fn bind(address: SocketAddr, protocol: PortProtocol) -> io::Result<(u16, Socket)> {
    let (kind, number) = match protocol {
        PortProtocol::Tcp => (Type::STREAM, Protocol::TCP),
        PortProtocol::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(number))?;
    socket.set_nonblocking(true)?;
    // On Windows this would let others take the same port.
    #[cfg(unix)]
    if protocol == PortProtocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    if protocol == PortProtocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    let bound = socket.local_addr()?.as_socket();
    let port = bound.map_or(address.port(), |bound| bound.port());
    Ok((port, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: Option<IpAddr>, host_port: Option<u16>) -> PortRequest {
        PortRequest {
            address,
            host_port,
            target: ExposedPort {
                port: 80,
                protocol: PortProtocol::Tcp,
            },
        }
    }

    #[test]
    fn a_port_is_chosen_and_held() {
        let (settled, held) = hold(&[request(None, None)]).unwrap();
        let port = settled[0].host_port;
        assert!(port.is_some_and(|port| port != 0));
        let refused = hold(&[request(None, port)]).unwrap_err();
        assert!(matches!(refused, PortError::Taken { .. }), "{refused}");
        drop(held);
        hold(&[request(None, port)]).unwrap();
    }

    #[test]
    fn all_are_had_or_none() {
        let (settled, held) = hold(&[request(None, None)]).unwrap();
        drop(held);
        hold(&[settled[0], settled[0]]).unwrap_err();
        hold(&settled).unwrap();
    }

    #[test]
    fn an_address_of_others_is_refused() {
        let elsewhere = Some(Ipv4Addr::new(192, 0, 2, 1).into());
        let refused = hold(&[request(elsewhere, Some(8080))]).unwrap_err();
        assert!(
            matches!(refused, PortError::NoSuchAddress { .. }),
            "{refused}"
        );
    }
}
