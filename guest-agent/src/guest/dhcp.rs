//! The guest's address from a server in its network (RFC 2131), where the host gives the
//! guest a network that is not ours to number: that of macOS' NAT.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use tokio::net::UdpSocket;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// A server on the same host answers at once; one that has not is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Far more than any answer has (RFC 2131, 2: 576 bytes are always accepted).
const LONGEST: usize = 1500;
/// Where the server does not say.
const PREFIX: u8 = 24;
/// A lease is renewed no more often than this, whatever the server says.
const SHORTEST: Duration = Duration::from_secs(60);
/// For a lease that does not say how long it holds.
const LEASE: Duration = Duration::from_secs(3600);

/// What the server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Option<Ipv4Addr>,
    /// When it is to be asked for again: after half of its time (RFC 2131, 4.4.5).
    pub(super) renewal: Duration,
    server: Ipv4Addr,
}

impl Lease {
    /// What an OFFER or ACK says; `None` where it lacks an address or its server.
    fn read(message: &Message) -> Option<Self> {
        let address = message.yiaddr();
        let Some(DhcpOption::ServerIdentifier(server)) =
            message.opts().get(OptionCode::ServerIdentifier)
        else {
            return None;
        };
        let prefix = match message.opts().get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => mask.to_bits().leading_ones() as u8,
            _ => PREFIX,
        };
        let gateway = match message.opts().get(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        };
        let lasts = match message.opts().get(OptionCode::AddressLeaseTime) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => Duration::from_secs((*seconds).into()),
            _ => LEASE,
        };
        (!address.is_unspecified()).then_some(Self {
            address,
            prefix,
            gateway,
            renewal: (lasts / 2).max(SHORTEST),
            server: *server,
        })
    }
}

/// Asks for an address until there is one. `former` is the one to have again.
pub(super) async fn obtain(card: &str, former: Option<Ipv4Addr>) -> io::Result<Lease> {
    let hardware = hardware_address(card)?;
    let client = UdpSocket::from_std(open(card)?.into())?;
    loop {
        let mut discover = question(MessageType::Discover, &hardware);
        if let Some(former) = former {
            let wish = DhcpOption::RequestedIpAddress(former);
            discover.opts_mut().insert(wish);
        }
        let Some(offer) = ask(&client, &discover, MessageType::Offer).await? else {
            continue;
        };
        let mut request = question(MessageType::Request, &hardware);
        for said in [
            DhcpOption::RequestedIpAddress(offer.address),
            DhcpOption::ServerIdentifier(offer.server),
        ] {
            request.opts_mut().insert(said);
        }
        if let Some(lease) = ask(&client, &request, MessageType::Ack).await? {
            return Ok(lease);
        }
    }
}

fn question(kind: MessageType, hardware: &[u8]) -> Message {
    let mut message = Message::default();
    // Without an address, only what is sent to everybody is heard.
    let flags = Flags::default().set_broadcast();
    message.set_flags(flags).set_chaddr(hardware);
    let wanted = vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::AddressLeaseTime,
    ];
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message
        .opts_mut()
        .insert(DhcpOption::ParameterRequestList(wanted));
    message
}

/// The answer of the kind that is waited for, if it comes in time.
async fn ask(
    client: &UdpSocket,
    question: &Message,
    expected: MessageType,
) -> io::Result<Option<Lease>> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    client
        .send_to(&bytes, SocketAddr::from((Ipv4Addr::BROADCAST, SERVER_PORT)))
        .await?;
    let answered = async {
        let mut buffer = [0; LONGEST];
        loop {
            let count = client.recv(&mut buffer).await?;
            let answer = Message::decode(&mut Decoder::new(&buffer[..count]));
            let Ok(answer) = answer else { continue };
            let fits = answer.xid() == question.xid() && answer.opts().has_msg_type(expected);
            if let Some(lease) = fits.then(|| Lease::read(&answer)).flatten() {
                return Ok(lease);
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Ok(None),
    }
}

/// A socket that sends and hears through this card only.
fn open(card: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&client, sockopt::Broadcast, &true)?;
    setsockopt(&client, sockopt::BindToDevice, &card.into())?;
    bind(
        client.as_raw_fd(),
        &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT),
    )?;
    Ok(client)
}

/// Six bytes, as `/sys/class/net` has them.
fn hardware_address(card: &str) -> io::Result<Vec<u8>> {
    let text = fs::read_to_string(format!("/sys/class/net/{card}/address"))?;
    let bytes = text.trim().split(':');
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).map_err(io::Error::other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Message {
        let mut message = Message::default();
        message.set_yiaddr([192, 168, 64, 7]);
        let server = Ipv4Addr::new(192, 168, 64, 1);
        for option in [
            DhcpOption::MessageType(MessageType::Ack),
            DhcpOption::ServerIdentifier(server),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 252, 0)),
            DhcpOption::Router(vec![server]),
            DhcpOption::AddressLeaseTime(600),
        ] {
            message.opts_mut().insert(option);
        }
        message
    }

    #[test]
    fn a_lease_is_read_and_renewed_after_half_of_its_time() {
        let bytes = answer().to_vec().unwrap();
        let read = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let lease = Lease::read(&read).unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(192, 168, 64, 7));
        assert_eq!(lease.prefix, 22);
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(192, 168, 64, 1)));
        assert_eq!(lease.renewal, Duration::from_secs(300));
    }

    #[test]
    fn an_answer_without_an_address_or_a_server_is_none() {
        let mut nowhere = answer();
        nowhere.set_yiaddr(Ipv4Addr::UNSPECIFIED);
        assert_eq!(Lease::read(&nowhere), None);
        let mut nobody = answer();
        nobody.opts_mut().remove(OptionCode::ServerIdentifier);
        assert_eq!(Lease::read(&nobody), None);
    }
}
