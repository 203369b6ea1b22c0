//! A container's networks: its namespace, its places on bridges, its way out, its ports
//! and its names, all by netlink and all by the container's shim.
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
//! Networks of the user's are described in files; see [`store`]. In them containers find
//! each other by name; see [`names`].
//!
//! Nothing here trusts that what was made is still there: every attachment makes
//! what is missing of bridge, rules and kernel parameters.

mod allocate;
mod attach;
mod bridge;
pub(crate) mod broker;
mod cable;
mod datagram;
mod error;
mod host;
mod links;
mod members;
mod names;
mod namespace;
mod naming;
mod network;
mod nft;
mod ports;
mod relay;
mod routes;
mod store;
mod trial;

pub(crate) use attach::{Attachment, Connection, Wish, attach, connect_now, forget};
pub(crate) use cable::Join;
pub(crate) use host::host_of;
pub(crate) use links::Links;
pub(crate) use names::{ADDRESS as NAME_SERVER, Directory, HOST_NAMES, Upstream};
pub(crate) use namespace::NetNamespace;
pub(crate) use network::Network;
pub(crate) use ports::Reservation;
pub(crate) use store::{Hold, NetworkError, NetworkStore};
pub(crate) use trial::{firewall_advice, try_links, try_rules};

#[cfg(test)]
mod tests;
