//! Why there is no appliance.

use std::path::PathBuf;

use isolazi_protocol::appliance::ManifestError;

use crate::arch::{Arch, UnknownArch};
use crate::command::CommandError;
use crate::cpio::TooLarge;
use crate::files::FileError;
use crate::kernel::config::ConfigError;
use crate::kernel::source::SourceError;
use crate::tools::ToolsError;

/// Any failure of a build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This machine or the one asked for is of no known kind.
    #[error(transparent)]
    Arch(#[from] UnknownArch),
    /// There is no place to put something.
    #[error("no home folder to keep the {what} in: give {option}")]
    NoHome {
        /// What needs a place.
        what: &'static str,
        /// The option that names one.
        option: &'static str,
    },
    /// The sources that this program was built from are gone.
    #[error(
        "no isolazi sources in {0}: run the builder from a checkout, with `cargo run -p isolazi-image-builder`"
    )]
    NoWorkspace(PathBuf),
    /// What lies at the output is not an appliance.
    #[error("{0} is not an appliance and not empty: give another --output, or remove it")]
    NotAnAppliance(PathBuf),
    /// A cached piece is not what it was when it was made.
    #[error("{0} has changed since it was built: remove it and build again")]
    CacheDamaged(PathBuf),
    /// Missing programs.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The kernel's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel's source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The initramfs cannot hold something.
    #[error(transparent)]
    Initramfs(#[from] TooLarge),
    /// Program and appliance cannot be put together.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not for a system whose loaders allow for more at a program's end.
    #[error(
        "{0} is a macOS program, whose signature allows for nothing behind it: make a bundle \
         with --payload-only and build isolazi with ISOLAZI_BUNDLE=<that file>"
    )]
    Signed(PathBuf),
    /// Neither ELF nor PE, or for another processor than isolazi knows.
    #[error("{0} is no program for x86_64 or aarch64")]
    NotAProgram(PathBuf),
    /// Program and appliance do not fit.
    #[error(
        "{program} is for {wanted} and the appliance in {folder} for {found}: give another --appliance"
    )]
    Arch {
        /// The program.
        program: PathBuf,
        /// Its processor.
        wanted: Arch,
        /// The appliance.
        folder: PathBuf,
        /// Its processor.
        found: String,
    },
    /// There is no usable appliance.
    #[error("no appliance of this version in {0}: make one with `isolazi-image-builder build`")]
    NoAppliance(PathBuf),
    /// A file is not what the manifest says.
    #[error("{0} has another content than its manifest says: build the appliance again")]
    Damaged(PathBuf),
}
