//! A container's network: its namespace, its place on a bridge, its way out and
//! its ports, all by netlink and all by the container's shim.
//!
//! ```text
//!   machine ──── isolazi0 (bridge, 172.20.0.1/24)
//!     │ nftables      ├── izv-ac140002 ═══ eth0 172.20.0.2   one container
//!     │ masquerade    └── izv-ac140003 ═══ eth0 172.20.0.3   another
//!     └ published ports
//! ```
//!
//! The kernel is the register of addresses: the machine's end of a container's
//! cable bears the container's address as its name, and no two links of a name
//! can be. So allocation is safe between any number of commands, and an address
//! returns when its container ends, however that comes about.
//!
//! Nothing here trusts that what was made is still there: every attachment makes
//! what is missing of bridge, rules and kernel parameters.

mod attach;
pub(crate) mod broker;
mod datagram;
mod error;
mod links;
mod namespace;
mod network;
mod nft;
mod ports;
mod relay;
mod subnet;

pub(crate) use attach::{Attachment, Connection, Wish, attach, connect_now, forget};
pub(crate) use error::NetError;
pub(crate) use links::Links;
pub(crate) use namespace::NetNamespace;
pub(crate) use network::Network;
pub(crate) use ports::Reservation;

#[cfg(test)]
mod tests;
