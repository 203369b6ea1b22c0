//! Datagrams of a published port. A machine has several addresses, and a peer takes an
//! answer only from the one that it has written to: `IP_PKTINFO` in ip(7),
//! `IPV6_RECVPKTINFO` in ipv6(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Between which two addresses a datagram has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Way {
    peer: SocketAddr,
    /// Of this machine's; unknown, the kernel chooses one for the answer.
    own: Option<IpAddr>,
}

/// A UDP port that answers from where it was asked.
#[derive(Debug)]
pub(super) struct Port(UdpSocket);

impl Port {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket.into())?;
        match socket.local_addr()? {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Self(socket))
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        let received = || receive_now(&self.0, buffer);
        self.0.async_io(Interest::READABLE, received).await
    }

    /// Sends a datagram back.
    pub(super) async fn answer(&self, datagram: &[u8], way: &Way) -> io::Result<()> {
        let sent = || send_now(&self.0, datagram, way);
        self.0.async_io(Interest::WRITABLE, sent).await
    }
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!(in6_pktinfo);
    let flags = MsgFlags::empty();
    let message = recvmsg(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let own = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let peer = message.address.as_ref().and_then(address);
    let peer = peer.ok_or(io::ErrorKind::InvalidData)?;
    Ok((message.bytes, Way { peer, own }))
}

fn address(of: &SockaddrStorage) -> Option<SocketAddr> {
    let four = of.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
    four.or_else(|| of.as_sockaddr_in6().map(|it| SocketAddr::V6((*it).into())))
}

fn send_now(socket: &UdpSocket, datagram: &[u8], way: &Way) -> io::Result<()> {
    let four = match way.own {
        Some(IpAddr::V4(own)) => Some(in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: nix::libc::in_addr {
                s_addr: u32::from_ne_bytes(own.octets()),
            },
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        }),
        _ => None,
    };
    let six = match way.own {
        Some(IpAddr::V6(own)) => Some(in6_pktinfo {
            ipi6_addr: nix::libc::in6_addr {
                s6_addr: own.octets(),
            },
            // Where it matters the peer's address has it.
            ipi6_ifindex: 0,
        }),
        _ => None,
    };
    let four = four.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let six = six.as_ref().map(ControlMessage::Ipv6PacketInfo);
    let control: Vec<_> = four.into_iter().chain(six).collect();
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(datagram)],
        &control,
        MsgFlags::MSG_NOSIGNAL,
        Some(&SockaddrStorage::from(way.peer)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket as Blocking};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_answer_comes_from_where_the_question_went() {
        let socket = Blocking::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let number = socket.local_addr().unwrap().port();
        let port = Port::new(socket.into()).unwrap();
        let client = Blocking::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        for last in [1, 2, 9] {
            let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), number));
            client.send_to(b"question", asked).unwrap();
            let mut buffer = [0; 16];
            let (length, way) = port.receive(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"question");
            port.answer(b"answer", &way).await.unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"answer"[..], asked));
        }
    }
}
