//! The guest's way to its host and beyond: the network card that the machine gives it.

use std::io;
use std::net::Ipv4Addr;

use isolazi_protocol::GuestNetwork;

use super::dhcp;
use crate::net::Links;
use crate::sys::loopback;

const CARD: &str = "eth0";
/// What QEMU's user network expects (`-netdev user`): every machine has one of its own,
/// in which the guest is always here.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Brings loopback and the card up, and keeps its address where that is a loan. A machine
/// without a card has no way out.
pub(super) async fn bring_up(network: GuestNetwork) -> io::Result<()> {
    loopback::bring_up()?;
    let links = Links::open()?;
    let Some(card) = links.find(CARD).await? else {
        return Ok(());
    };
    if network == GuestNetwork::User {
        links.add_address(card.index, ADDRESS, PREFIX).await?;
        links.bring_up(card.index).await?;
        return links.add_default_route(GATEWAY).await;
    }
    links.bring_up(card.index).await?;
    let mut former = None;
    loop {
        let lease = dhcp::obtain(CARD, former).await?;
        if former != Some(lease.address) {
            links
                .add_address(card.index, lease.address, lease.prefix)
                .await?;
            if let Some(gateway) = lease.gateway {
                links.add_default_route(gateway).await?;
            }
        }
        former = Some(lease.address);
        tokio::time::sleep(lease.renewal).await;
    }
}
