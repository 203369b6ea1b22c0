//! Rootless: containers of an ordinary user, in a user namespace of the user's own.
//!
//! A command stays outside, as it is, and speaks to an engine inside, which is
//! root there. So images, terminals and machines are none of this module's
//! business, and all that the engine starts is in the namespace from birth.
//!
//! ```text
//!  command, the user                        the user's namespaces: user, network
//!   │
//!   ├─ spawns ► entry ─ lock ─ keeper? ─ no ─► make them ─ newuidmap, newgidmap, pasta
//!   │             │               │ yes            │
//!   │             └─ setns ◄──────┴────────────────┘ and a keeper, where there is none
//!   │             └─ own mounts, execve ► engine ──► shims ──► containers
//!   │                                        ▲
//!   └─ one socket for each conversation ─────┘ ends with the command
//! ```
//!
//! A *keeper* holds the namespaces, so that the containers of all commands are in
//! the same ones. It does nothing but wait until nobody else is in them, and then
//! ends. `<data root>/rootless/keeper.json` names it.
//!
//! A *broker* stays outside and binds the ports that containers publish. It hands the
//! sockets to their shims, which relay what comes to them.
//!
//! Mounts are each engine's own, made from the host's at that time: a disk that the
//! user plugs in later is there for the next command.

mod blocked;
mod broker;
mod client;
mod engine;
mod enter;
mod examine;
mod keeper;
mod lock;
mod make;
mod network;
mod record;
mod subordinate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use broker::broker_of;
pub use client::Rootless;
pub use examine::examine;

/// Runs what this process was started as, if that belongs to rootless containers. To
/// be called first thing in `main`, before any thread exists.
pub fn run_if_rootless() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let role = words.next()?;
    if role == enter::ARGV0 {
        return Some(enter::run(words));
    }
    if role == engine::ARGV0 {
        return Some(engine::run(words));
    }
    if role == broker::ARGV0 {
        return Some(broker::run(words));
    }
    (role == keeper::ARGV0).then(|| keeper::run(words))
}

/// The folder of the namespaces' own files below a data root.
fn folder(root: &Path) -> PathBuf {
    root.join("rootless")
}
