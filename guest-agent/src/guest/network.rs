//! The guest's way to its host and beyond: the network card that the machine gives it.

use std::io;
use std::net::Ipv4Addr;

use crate::net::Links;

/// What QEMU's user network expects (`-netdev user`): every machine has one of its own,
/// in which the guest is always here.
const CARD: &str = "eth0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Brings the card up. A machine without one has no way out.
pub(super) async fn bring_up() -> io::Result<()> {
    let links = Links::open()?;
    let Some(card) = links.find(CARD).await? else {
        return Ok(());
    };
    links.add_address(card.index, ADDRESS, PREFIX).await?;
    links.bring_up(card.index).await?;
    links.add_default_route(GATEWAY).await
}
