//! The isolazi engine: everything that happens to a container on Linux.
//!
//! The same library is the guest's agent (a static musl binary that is PID 1
//! of the appliance) and native Linux's engine (inside the host binary).
//!
//! ```text
//!  server ─► container ─► { rootfs, volume, cgroup, launch } ─► sys
//!                │
//!                ▼ spawn, plan over a socketpair
//!  shim: one process per container, single-threaded; parent of its processes
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("isolazi-agent is the Linux side; other hosts reach it in a guest");

pub mod cgroup;
pub mod container;
mod diagnose;
mod events;
pub mod guest;
pub mod launch;
mod net;
pub mod refusal;
pub mod rootfs;
pub mod seccomp;
pub mod server;
pub mod shim;
pub mod sys;
mod systemd;
pub mod userns;
pub mod visit;
pub mod volume;
pub mod wsl;
