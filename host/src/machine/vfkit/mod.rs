//! Guests under vfkit, that is macOS' Virtualization framework.
//!
//! ```text
//!  supervisor ──► vfkit ──► guest
//!      │            ├── agent.sock    to the agent's vsock port
//!      │            ├── vfkit.sock    its power (HTTP)
//!      │            └── console.log   what the guest prints
//!      └─────────── a list of folders, shared from the start
//! ```
//!
//! vfkit itself would set the guest's clock after the host has slept (`--timesync`), but
//! by qemu-guest-agent, which the appliance has not; the supervisor's heartbeat does it
//! on every backend.
//!
//! It runs on macOS only. This code builds on Linux, too, so that it can be driven there
//! against a stand-in.

pub mod command;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod control;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod kernel;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod run;

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use run::Vfkit;
