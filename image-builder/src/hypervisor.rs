//! The program that boots the appliance on this machine.

use crate::Arch;
use crate::error::BuildError;
use crate::progress::Progress;
use crate::tools::{self, Tool};

impl Arch {
    const fn qemu(self) -> Tool {
        match self {
            Self::X86_64 => Tool::program("qemu-system-x86_64", "qemu-system-x86"),
            Self::Aarch64 => Tool::program("qemu-system-aarch64", "qemu-system-arm"),
        }
    }
}

/// Installs QEMU where it is missing. `tell` gets lines of progress.
///
/// # Errors
/// Where it is missing and cannot be installed: what to install.
pub fn ensure_hypervisor(tell: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let host = Arch::host()?;
    Ok(tools::ensure(&[host.qemu()], &mut Progress::new(1, tell))?)
}
