//! Why there is no appliance.

use std::path::PathBuf;

use isolazi_protocol::appliance::ManifestError;

use crate::arch::UnknownArch;
use crate::bundle::BundleError;
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
