//! The shim: one small process per container, the parent of the container's
//! processes.
//!
//! ```text
//!  agent ──spawn──► shim ──clone3──► container's first process
//!    │  socketpair:  │  ▲   └clone3─► exec'd processes
//!    │  lock, plan   │  │
//!    └─► relays ◄────┘  └── shim.sock: attach, exec, signal, stop
//!        the client's
//!        frames
//! ```
//!
//! It holds the container's lock, pumps the standard streams to the log and to
//! whoever is attached, and records the end. It outlives the agent and the
//! command that started it; when it is killed the kernel kills the container
//! (PR_SET_PDEATHSIG) and the next look at the container's folder notices.
//!
//! The shim is single-threaded, which is what makes running code after a
//! `clone` sound. Its runtime must never start a blocking thread.

mod client;
mod door;
mod health;
mod io;
mod joining;
mod life;
mod main;
mod network;
mod process;
mod running;
mod spawn;
mod wire;

pub use main::run_if_shim;
pub use spawn::{ask, spawn};
pub use wire::{ShimRequest, ShimStart};
