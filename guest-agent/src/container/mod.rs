//! Containers as the agent knows them: their folders, their states, and the
//! plan by which one is launched.
//!
//! The folder is the truth; the agent keeps nothing in memory that a restart
//! could not read back from it:
//!
//! ```text
//! containers/
//! ├── .names/<name>        symlink to the id: makes a name unique, atomically
//! └── <id>/
//!     ├── lock             flocked by the shim for as long as the container lives
//!     ├── config.json      how it was made; written last, so its presence means "whole"
//!     ├── plan.json        how to launch it
//!     ├── state.json       where it is in its life
//!     ├── health.json      how it is, where it has a health check
//!     ├── container.log    its output, in the CRI's log format
//!     ├── shim.sock        the shim's door, while it lives
//!     ├── etc/             hosts, hostname, resolv.conf
//!     └── upper/ work/ rootfs/   its changes, overlayfs's own, the mount point
//! ```

mod checks;
mod files;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod health;
mod hosts;
pub mod lifecycle;
mod limits;
pub mod log;
mod names;
mod network;
mod options;
pub mod plan;
pub mod privileges;
mod propagation;
pub mod security;
mod shares;
mod store;
pub mod userns;

pub use files::{ContainerDir, Record};
pub(crate) use hosts::{hosts, resolv_conf, resolv_conf_with_names};
pub(crate) use names::is_valid as is_valid_name;
pub(crate) use network::validate_endpoint;
pub(crate) use store::random_id;
pub use store::{ContainerStore, NewContainer, StoreError};

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
