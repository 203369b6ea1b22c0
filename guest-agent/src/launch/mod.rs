//! Creates a container's processes from an immutable plan.
//!
//! ```text
//!  shim                          child
//!   │ cgroup
//!   ├─ clone3(namespaces) ──────► enter the cgroup, session, keyring, host name, loopback
//!   │                             mounts ─ pivot_root
//!   │  ◄── terminal's master ──── user, standard streams, working directory
//!   │                             capabilities, no_new_privs
//!   │  ◄── Ready ──────────────── close descriptors, seccomp, execve
//!   ◄── end of the channel: it runs
//! ```
//!
//! The caller must be single-threaded and stays the parent of every process:
//! when it dies, they die. An [`exec`] takes the same way, but joins the
//! container's namespaces instead of making new ones.

mod environment;
mod error;
mod exec;
mod foreign;
mod init;
mod label;
mod limits;
mod mounts;
pub mod plan;
mod process;
mod report;
mod resolve;
mod spawn;
mod start;
mod stdio;
mod user;
mod userns;

pub use error::{LaunchError, Stage};
pub use exec::exec;
pub(crate) use init::is_available as has_init;
pub(crate) use limits::raise_descriptors;
pub use spawn::Launched;
pub use start::{Connect, NetworkNamespace, start};
pub use stdio::Stdio;

use crate::cgroup::RemoveError;

/// Removes what [`start`] leaves in the system when the container has ended:
/// its cgroup, with whatever still runs in it. (Its mounts went with its mount
/// namespace.) Goes on after a failure, and may be repeated.
pub fn cleanup(plan: &plan::LaunchPlan) -> Vec<RemoveError> {
    crate::cgroup::remove(&plan.cgroup.path)
}
