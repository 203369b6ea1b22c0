//! Ports of this host that lead to a container in a machine: held here, and relayed
//! by conversations with the machine's agent, one for each connection at a time.
//!
//! ```text
//!  client ─► listener ─► conversation (Dial) ─► agent ─► container
//! ```

mod hold;
mod line;
mod relay;

pub use hold::{Held, PortError, hold};
pub use line::Line;
pub use relay::{Relays, Room, Way};
