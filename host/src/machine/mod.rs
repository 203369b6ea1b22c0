//! Machines: ways to reach an agent.
//!
//! A machine is where an engine runs: this host's own kernel ([`native`]), or
//! a guest under some hypervisor ([`Backend`]). Commands know only the traits.

pub mod appliance;
pub mod arch;
pub mod backend;
mod fingerprint;
pub mod known;
pub mod lima;
#[cfg(target_os = "linux")]
pub mod native;
mod open;
#[cfg(target_os = "linux")]
pub mod qemu;
pub mod size;
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod supervised;
pub mod vfkit;
mod virtual_machine;
pub mod wsl2;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::{BindSource, ContainerId, HostAddress, Isolation, PortRequest, WireError};
use tokio::io::AsyncWriteExt;

use crate::connection::{ByteStream, Dialed};

pub use arch::GuestArch;
pub use backend::Backend;
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use open::hypervisor;
pub use open::open;
pub use size::MachineSize;
pub use virtual_machine::{MachineLog, MachineState, VirtualMachine};

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
    /// The appliance that this program brings along is not whole.
    #[error("the appliance in this program is damaged, so install isolazi again")]
    BadBundle(#[source] std::io::Error),
    /// The hypervisor is not installed.
    #[error("{} is not installed; {}", .0.program(), .0.remedy())]
    NoHypervisor(Backend),
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
    /// What went wrong elsewhere, with its causes in one line.
    pub(crate) fn because(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }

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

/// Who says that something of this host's is to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Word {
    /// The user, with a command.
    User,
    /// A container's record, which a guest keeps.
    Record,
}

/// Ports that a container is to publish.
#[derive(Default)]
pub struct Publication {
    /// With the host's part of each settled where the host relays them.
    pub ports: Vec<PortRequest>,
    /// The host relays them, rather than the engine's own kernel.
    pub relayed: bool,
    /// Whoever holds them waits to be told for whom.
    pub holder: Option<Box<dyn ByteStream>>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Publication").field(&self.ports).finish()
    }
}

impl Publication {
    /// Says which container the ports are for. Dropped instead, they are given up.
    pub async fn belongs_to(self, container: &ContainerId) -> Result<(), MachineError> {
        let Some(mut holder) = self.holder else {
            return Ok(());
        };
        let line = format!("{container}\n");
        let told = async {
            holder.write_all(line.as_bytes()).await?;
            holder.flush().await
        };
        told.await.map_err(|error| {
            MachineError::Failed(format!("the machine's supervisor takes no ports: {error}"))
        })
    }
}

/// What containers on a machine see of the network beyond it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outside {
    /// Where the host is.
    pub host: HostAddress,
    /// Who resolves names there as the host does.
    pub resolver: Resolver,
}

/// Who resolves names for containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolver {
    /// The host's own servers.
    #[default]
    Hosts,
    /// Somebody in the machine's network, who asks them.
    At(Ipv4Addr),
    /// The servers of the system that the engine is in: it knows.
    Engines,
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
        word: Word,
    ) -> BoxFuture<'a, Result<BindSource, MachineError>>;

    /// Takes ports of this host for a container that is about to be made, where the
    /// engine cannot do that itself.
    fn publish<'a>(
        &'a self,
        ports: &'a [PortRequest],
        _word: Word,
    ) -> BoxFuture<'a, Result<Publication, MachineError>> {
        let published = Publication {
            ports: ports.to_vec(),
            ..Publication::default()
        };
        std::future::ready(Ok(published)).boxed()
    }

    /// What is beyond the networks of its containers.
    fn outside(&self) -> Outside {
        Outside::default()
    }
}
