//! What `wsl.exe` says. Texts are those of Microsoft's documentation and of its
//! public issues; isolazi goes by the codes in them.

use std::env;
use std::fmt;
use std::io::{self, Write};

use crate::FAULT;
use crate::arguments::Command;

/// Why it does not do what it is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An option that it does not have, or that lacks something.
    Option(String),
    /// What makes no sense.
    Argument,
    /// No distribution has this name.
    NotFound,
    /// There is no distribution at all.
    NoDefault,
    /// One has this name already.
    Exists,
    /// Virtualization is off.
    HyperV,
    /// The user is not in the distribution's `/etc/passwd`.
    User,
    /// This machine's fault.
    Io(String),
}

impl Failure {
    pub(crate) fn io(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io(format!("{what}: {error}"))
    }
}

impl From<nix::Error> for Failure {
    fn from(error: nix::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coded = |f: &mut fmt::Formatter<'_>, text: &str, code: &str| {
            write!(f, "{text}\nError code: Wsl/Service/{code}\n")
        };
        match self {
            Self::Option(option) => write!(
                f,
                "Invalid command line option: {option}\n\
                 Copyright (c) Microsoft Corporation. All rights reserved.\n\n\
                 Usage: wsl.exe [Argument] [Options...] [CommandLine]\n"
            ),
            Self::Argument => coded(f, "The parameter is incorrect.", "E_INVALIDARG"),
            Self::NotFound => coded(
                f,
                "There is no distribution with the supplied name.",
                "WSL_E_DISTRO_NOT_FOUND",
            ),
            Self::NoDefault => coded(
                f,
                "Windows Subsystem for Linux has no installed distributions.",
                "WSL_E_DEFAULT_DISTRO_NOT_FOUND",
            ),
            Self::Exists => coded(
                f,
                "A distribution with the supplied name already exists.",
                "RegisterDistro/ERROR_ALREADY_EXISTS",
            ),
            Self::HyperV => coded(
                f,
                "WSL2 is unable to start since virtualization is not enabled on this machine.",
                "CreateInstance/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED",
            ),
            Self::User => coded(f, "User not found.", "WSL_E_USER_NOT_FOUND"),
            Self::Io(text) => writeln!(f, "{text}"),
        }
    }
}

/// Fails where the environment wants that: `virtualization` is off, or the program
/// is that `old` that it imports without a version.
pub(crate) fn fault(command: &Command) -> Result<(), Failure> {
    let fault = env::var(FAULT).unwrap_or_default();
    let boots = matches!(command, Command::Import { .. } | Command::Exec { .. });
    match (fault.as_str(), command) {
        ("virtualization", _) if boots => Err(Failure::HyperV),
        ("old", Command::Import { .. }) => Err(Failure::Option("--version".to_owned())),
        _ => Ok(()),
    }
}

/// Prints in UTF-16, with the ends of lines that Windows has.
pub(crate) fn print(text: &str) {
    let text = text.replace('\n', "\r\n");
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Whoever does not want to hear it does not.
    let _ = io::stdout().lock().write_all(&bytes);
}
