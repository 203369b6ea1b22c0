//! Machines: ways to reach an agent.
//!
//! A machine is where an engine runs: this host's own kernel ([`native`]), or
//! a guest under some hypervisor ([`qemu`]). Commands know only the trait.

pub mod appliance;
pub mod known;
#[cfg(target_os = "linux")]
pub mod native;
#[cfg(unix)]
pub mod qemu;

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use isolazi_protocol::{BindSource, Isolation, WireError};

use crate::connection::Dialed;

/// Why a machine cannot do what was asked. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The engine itself refused.
    #[error(transparent)]
    Engine(#[from] WireError),
    /// There is no appliance to boot.
    #[error("no appliance is installed in {}; build one in a checkout with: cargo run --release -p isolazi-image-builder -- build", .0.display())]
    NoAppliance(PathBuf),
    /// The appliance is not what its manifest says.
    #[error("the appliance in {} is damaged ({reason}); build it again", folder.display())]
    BadAppliance {
        /// Where it lies.
        folder: PathBuf,
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The hypervisor is not installed.
    #[error("{0} is not installed; install QEMU (Debian, Ubuntu: apt-get install qemu-system-x86)")]
    NoHypervisor(String),
    /// A file or socket of the machine.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The machine did not come up, or went down.
    #[error("{0}")]
    Failed(String),
}

impl MachineError {
    /// For `map_err`: which step failed, on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Where an engine runs.
pub trait Machine: Send + Sync {
    /// How its containers are kept apart from the host.
    fn isolation(&self) -> Isolation;

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
