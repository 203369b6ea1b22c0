//! What runs the virtual machine: which hypervisors there are, and which one is
//! used here.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

use crate::machine::{GuestArch, MachineError};

/// Names the backend, before the settings.
pub const VARIABLE: &str = "ISOLAZI_BACKEND";

/// A way to run the virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// QEMU, with a supervisor of ours.
    Qemu,
    /// macOS' Virtualization framework, by vfkit.
    Vfkit,
    /// An instance of Lima's.
    Lima,
    /// A distribution of the Windows Subsystem for Linux.
    Wsl2,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "qemu",
            Self::Vfkit => "vfkit",
            Self::Lima => "lima",
            Self::Wsl2 => "wsl2",
        })
    }
}

impl Backend {
    /// The environment's, else the user's, else what fits this system best.
    pub fn choose(setting: Option<Self>) -> Result<Self, MachineError> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => Self::from_str(&name, true).map_err(|_| {
                MachineError::Failed(format!(
                    "{VARIABLE}: '{name}' is no backend; use qemu, vfkit, lima or wsl2"
                ))
            }),
            _ => Ok(setting.unwrap_or_else(Self::of_this_system)),
        }
    }

    /// Those that there are for this system, the best one first.
    pub fn of_system() -> &'static [Self] {
        match std::env::consts::OS {
            "windows" => &[Self::Wsl2],
            "macos" => &[Self::Vfkit, Self::Lima],
            _ => &[Self::Qemu],
        }
    }

    fn of_this_system() -> Self {
        let installed = |backend: &&Self| find_program(&backend.program()).is_some();
        let all = Self::of_system();
        *all.iter().find(installed).unwrap_or(&all[0])
    }

    /// The program that it takes, as it is found on the PATH.
    pub fn program(self) -> String {
        match self {
            Self::Qemu => format!("qemu-system-{}", GuestArch::current()),
            Self::Vfkit => "vfkit".to_owned(),
            Self::Lima => "limactl".to_owned(),
            Self::Wsl2 => "wsl.exe".to_owned(),
        }
    }

    /// How its program is installed.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Qemu => match GuestArch::current() {
                GuestArch::X86_64 => {
                    "install QEMU (Debian, Ubuntu: apt-get install qemu-system-x86)"
                }
                GuestArch::Aarch64 => {
                    "install QEMU (Debian, Ubuntu: apt-get install qemu-system-arm)"
                }
            },
            Self::Vfkit => "install it: brew install vfkit",
            Self::Lima => "install it: brew install lima",
            Self::Wsl2 => "install it, as an administrator: wsl --install",
        }
    }
}

/// Finds a program on the PATH.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}
