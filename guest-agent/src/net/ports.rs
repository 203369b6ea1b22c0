//! Ports of the machine's that lead to a container.
//!
//! Each is held by a socket as long as it is published, so that nobody else gets it,
//! and the kernel says at once who is too late. What comes to the machine's IPv4
//! addresses never reaches that socket: the rules send it to the container, from the
//! address that it comes from. What comes from the machine itself to its loopback
//! addresses, and all of IPv6, is [relayed](super::relay).
//!
//! An ordinary user's containers have a machine of their own, in the user's namespaces,
//! and ports of the one outside. A [broker](super::broker) there binds those sockets,
//! and all that comes to them is relayed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use isolazi_protocol::{PortProtocol, PortRequest, PublishedPort};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen,
    setsockopt, socket, sockopt,
};

use super::error::NetError;
use super::relay::Relays;

/// A free port of one family may be taken in the other.
const ATTEMPTS: usize = 32;

/// Ports that are held.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    ports: Vec<PublishedPort>,
    sockets: Vec<OwnedFd>,
}

impl Reservation {
    /// Takes all ports that are asked for, or none.
    pub(super) fn of(requests: &[PortRequest]) -> Result<Self, NetError> {
        let mut all = Taken::new();
        for request in requests {
            all.extend(take(request)?);
        }
        Ok(all.into())
    }

    /// Ports that somebody else holds, who has settled which.
    pub(super) fn elsewhere(requests: &[PortRequest]) -> Self {
        let unspecified = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let ports = requests.iter().flat_map(|request| {
            let addresses = request.address.map_or(unspecified.to_vec(), |it| vec![it]);
            addresses.into_iter().map(|address| PublishedPort {
                target: request.target,
                address,
                host_port: request.host_port.unwrap_or_default(),
            })
        });
        Self {
            ports: ports.collect(),
            sockets: Vec::new(),
        }
    }

    pub(crate) fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// Relays what comes to the sockets to the container at `address`, if it has one.
    pub(super) fn relay_to(self, address: Option<Ipv4Addr>) -> Relays {
        let relays = Relays::to(address);
        for (port, socket) in self.ports.iter().zip(self.sockets) {
            relays.add(port.target, socket);
        }
        relays
    }
}

/// What has been taken, each with the socket that holds it.
pub(super) type Taken = Vec<(PublishedPort, OwnedFd)>;

impl From<Taken> for Reservation {
    fn from(taken: Taken) -> Self {
        let (ports, sockets) = taken.into_iter().unzip();
        Self { ports, sockets }
    }
}

/// Takes what one request asks for.
pub(super) fn take(request: &PortRequest) -> Result<Taken, NetError> {
    let Some(address) = request.address else {
        return take_everywhere(request);
    };
    let port = request.host_port.unwrap_or_default();
    Ok(vec![take_at(request, address, port)?])
}

/// On all addresses of both families, by the same port.
fn take_everywhere(request: &PortRequest) -> Result<Taken, NetError> {
    let wanted = request.host_port.unwrap_or_default();
    let mut attempt = 1;
    loop {
        let four = take_at(request, Ipv4Addr::UNSPECIFIED.into(), wanted)?;
        let port = four.0.host_port;
        match take_at(request, Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok(six) => return Ok(vec![four, six]),
            // A machine without IPv6 has nothing to publish there.
            Err(NetError::NoSuchAddress { .. }) => return Ok(vec![four]),
            Err(NetError::PortTaken { .. }) if wanted == 0 && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn take_at(
    request: &PortRequest,
    address: IpAddr,
    port: u16,
) -> Result<(PublishedPort, OwnedFd), NetError> {
    let target = request.target;
    let protocol = target.protocol;
    let (socket, port) = hold(address, port, protocol).map_err(|errno| match errno {
        Errno::EADDRINUSE => NetError::PortTaken {
            port,
            protocol,
            address,
        },
        Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => NetError::NoSuchAddress { address, target },
        Errno::EACCES if port < first_of_everybody() => NetError::PortOfRoot {
            port,
            protocol,
            first: first_of_everybody(),
        },
        errno => NetError::Port {
            port,
            protocol,
            address,
            source: errno.into(),
        },
    })?;
    let published = PublishedPort {
        target,
        address,
        host_port: port,
    };
    Ok((published, socket))
}

/// Ports below are for those with `CAP_NET_BIND_SERVICE` only: ip(7).
fn first_of_everybody() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let number = text.ok().and_then(|text| text.trim().parse().ok());
    number.unwrap_or(1024)
}

/// A socket that holds a port, and which one it is.
pub(super) fn hold(
    address: IpAddr,
    port: u16,
    protocol: PortProtocol,
) -> Result<(OwnedFd, u16), Errno> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = match protocol {
        PortProtocol::Tcp => SockType::Stream,
        PortProtocol::Udp => SockType::Datagram,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None)?;
    if protocol == PortProtocol::Tcp {
        // Connections that have just ended hold no port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    let wanted = SockaddrStorage::from(SocketAddr::new(address, port));
    bind(socket.as_raw_fd(), &wanted)?;
    if protocol == PortProtocol::Tcp {
        // As many wait as the kernel allows; the crate would allow as many as libc knows of.
        listen(&socket, Backlog::MAXALLOWABLE)?;
    }
    let port = bound_port(&socket)?;
    Ok((socket, port))
}

fn bound_port(socket: &OwnedFd) -> Result<u16, Errno> {
    let bound: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    let four = bound
        .as_sockaddr_in()
        .map(nix::sys::socket::SockaddrIn::port);
    let six = bound
        .as_sockaddr_in6()
        .map(nix::sys::socket::SockaddrIn6::port);
    four.or(six).ok_or(Errno::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::ExposedPort;

    fn request(
        address: Option<IpAddr>,
        host_port: Option<u16>,
        protocol: PortProtocol,
    ) -> PortRequest {
        PortRequest {
            address,
            host_port,
            target: ExposedPort { port: 80, protocol },
        }
    }

    #[test]
    fn a_port_that_is_left_out_is_the_same_everywhere() {
        for protocol in [PortProtocol::Tcp, PortProtocol::Udp] {
            let held = Reservation::of(&[request(None, None, protocol)]).unwrap();
            let ports = held.ports();
            assert!(ports[0].host_port != 0);
            assert!(
                ports
                    .iter()
                    .all(|port| port.host_port == ports[0].host_port)
            );
            assert_eq!(ports[0].address, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
    }

    #[test]
    fn a_port_is_had_once() {
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        for protocol in [PortProtocol::Tcp, PortProtocol::Udp] {
            let held = Reservation::of(&[request(loopback, None, protocol)]).unwrap();
            let port = Some(held.ports()[0].host_port);
            for address in [loopback, None] {
                let error = Reservation::of(&[request(address, port, protocol)]).unwrap_err();
                assert!(matches!(error, NetError::PortTaken { .. }), "{error}");
            }
            drop(held);
            Reservation::of(&[request(loopback, port, protocol)]).unwrap();
        }
    }

    #[test]
    fn of_several_ports_all_are_had_or_none() {
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        let probe = Reservation::of(&[request(loopback, None, PortProtocol::Tcp)]).unwrap();
        let port = Some(probe.ports()[0].host_port);
        drop(probe);
        let twice = [request(loopback, port, PortProtocol::Tcp); 2];
        assert!(Reservation::of(&twice).is_err());
        Reservation::of(&twice[..1]).unwrap();
    }

    #[test]
    fn an_address_of_others_is_refused() {
        let elsewhere = Some(Ipv4Addr::new(192, 0, 2, 1).into());
        let error = Reservation::of(&[request(elsewhere, Some(8080), PortProtocol::Tcp)]);
        assert!(matches!(error, Err(NetError::NoSuchAddress { .. })));
    }
}
