//! The machine of each backend.

use std::sync::Arc;

use crate::machine::{Backend, GuestArch, MachineError, VirtualMachine};
use crate::paths::Paths;

/// The machine of a data root. Starts nothing.
///
/// # Errors
/// When this system has no such backend, or cannot have machines.
pub fn open(backend: Backend, paths: &Paths) -> Result<Arc<dyn VirtualMachine>, MachineError> {
    GuestArch::check()?;
    match backend {
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        Backend::Qemu | Backend::Vfkit | Backend::Lima => {
            let hypervisor = hypervisor(backend)?;
            let machine = super::supervised::Supervised::new(backend, hypervisor, paths)?;
            Ok(Arc::new(machine))
        }
        Backend::Wsl2 => Ok(Arc::new(super::wsl2::Wsl2::new(paths))),
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        _ => Err(unavailable(backend)),
    }
}

/// What is particular about a backend whose guests a supervisor of ours looks after.
///
/// # Errors
/// When this system has no such backend, or it has no supervisor.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn hypervisor(
    backend: Backend,
) -> Result<Arc<dyn super::supervised::Hypervisor>, MachineError> {
    match backend {
        #[cfg(target_os = "linux")]
        Backend::Qemu => Ok(Arc::new(super::qemu::Qemu)),
        Backend::Vfkit => Ok(Arc::new(super::vfkit::Vfkit)),
        Backend::Lima => Ok(Arc::new(super::lima::Lima)),
        _ => Err(unavailable(backend)),
    }
}

fn unavailable(backend: Backend) -> MachineError {
    MachineError::Failed(format!(
        "the backend '{backend}' is not available on {}",
        std::env::consts::OS
    ))
}
