//! The agent as the whole user space of a guest: PID 1, and the server it keeps alive.
//!
//! ```text
//!  kernel ─► /init (PID 1, one thread)                  same executable
//!              │ boot:  root, mounts, sysctls, disk           │
//!              ├──────────────── spawn, boot config on stdin ─► server
//!              │                                              │  AF_VSOCK, host only
//!              │ ◄──────────────── SIGTERM: shut down ────────┤  one task per conversation
//!              │ reaps orphans, restarts the server           │
//!              ▼
//!            sync, unmount, power off
//! ```
//!
//! PID 1 stays small and has no runtime, so that nothing a conversation does
//! can take the guest down. The server may die at any time: containers belong
//! to their shims, and PID 1 starts another server.

pub(crate) mod boot;
pub mod clock;
mod config;
mod dhcp;
mod disk;
pub(crate) mod error;
mod init;
mod listener;
mod network;
mod rosetta;
mod server;
pub mod service;
pub mod shares;
pub mod shutdown;

pub use init::run as run_init;
pub(crate) use server::DESCRIPTORS;
pub use server::run as run_server;

/// The argument that makes the executable the server instead of PID 1.
pub const SERVER_ROLE: &str = "server";

/// Where the data disk is mounted: layers and containers live there.
pub const DATA_ROOT: &str = "/var/lib/isolazi";

/// Where the server runs what PID 1 was started from: the boot image, read-only.
const EXECUTABLE: &str = "/proc/self/exe";
