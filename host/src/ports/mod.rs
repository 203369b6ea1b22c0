//! Ports of this host that lead to a container in a machine: held here, and relayed
//! by conversations with the machine's agent, one for each connection.
//!
//! ```text
//!  client ─► listener ─► conversation (Dial) ─► agent ─► container
//! ```

mod hold;
mod relay;

pub use hold::{Held, PortError, hold};
pub use relay::{Dial, Relays, Room};
