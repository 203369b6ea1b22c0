//! Machines: ways to reach an agent.
//!
//! A machine is where an engine runs: this host's own kernel ([`native`]), or
//! a guest under some hypervisor. Commands know only this trait.

#[cfg(target_os = "linux")]
pub mod native;

use std::path::Path;

use futures_util::future::BoxFuture;
use isolazi_protocol::{BindSource, WireError};

use crate::connection::Dialed;

/// Why a machine cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The engine itself refused.
    #[error(transparent)]
    Engine(#[from] WireError),
}

/// Where an engine runs.
pub trait Machine: Send + Sync {
    /// Connects to the agent. Starts the machine where it does not run.
    fn dial(&self) -> BoxFuture<'_, Result<Dialed, MachineError>>;

    /// Makes a folder or file of this host visible to the agent, and says
    /// where. `source` is canonical and exists.
    fn share<'a>(
        &'a self,
        source: &'a Path,
        read_only: bool,
    ) -> BoxFuture<'a, Result<BindSource, MachineError>>;
}
