//! Guests that are instances of Lima's, in its default distribution.
//!
//! ```text
//!  supervisor ──► limactl start, stop, list
//!      │               └─► Lima's host agent ─► guest: systemd ─► isolazi-agent
//!      └── agent.sock ◄────────┘ forwards the agent's socket
//! ```
//!
//! The agent is the appliance's, installed as a service by the template; it runs as root
//! in the guest's own distribution and kernel. `LIMA_HOME` is respected, as limactl does.

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod agent;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod run;
pub mod template;

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use run::Lima;
