//! What can go wrong with images, in words for the user.
//!
//! Each message is one line that says what failed, for which image, registry
//! or file, and what to do. Text that strangers sent is escaped and cut where
//! it enters an error, see [`escape`].

use std::io;
use std::path::{Path, PathBuf};

use isolazi_protocol::Digest;

use super::platform::Platform;
use super::sink::SinkError;

/// The innermost reason of a failed connection. Libraries wrap it in layers
/// that repeat each other; only the last one says something.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub(crate) String);

/// Why an image could not be pulled, read or stored.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry knows no such repository, or does not show it to strangers.
    #[error("image '{0}' not found, or it needs a login: check the name")]
    NotFound(String),
    /// The repository is there, the tag or digest is not.
    #[error("image '{0}' not found: its registry has no such tag or digest")]
    UnknownTag(String),
    /// The image's manifest names content that the registry does not have.
    #[error(
        "{what} of '{image}' is missing in registry '{registry}': the image is incomplete there"
    )]
    BlobUnknown {
        /// `layer …` or `configuration …`.
        what: String,
        /// Which image.
        image: String,
        /// Which registry.
        registry: String,
    },
    /// The registry's name has no address.
    #[error("cannot find registry '{registry}': check the name and the network")]
    RegistryUnknown {
        /// Which registry.
        registry: String,
        /// What the resolver said.
        source: Reason,
    },
    /// Nobody answers at the registry's address.
    #[error("cannot connect to registry '{registry}': check that it is running and reachable")]
    Unreachable {
        /// Which registry.
        registry: String,
        /// What the system said.
        source: Reason,
    },
    /// No trustworthy encrypted connection.
    #[error(
        "no secure connection to registry '{registry}': trust its certificate authority (SSL_CERT_FILE) or, if it speaks plain http, allow it with --insecure-registry"
    )]
    Tls {
        /// Which registry.
        registry: String,
        /// What the TLS library said.
        source: Reason,
    },
    /// The connection broke, more often than is worth trying again.
    #[error("the connection to registry '{registry}' broke: pull again to continue")]
    Broken {
        /// Which registry.
        registry: String,
        /// What the system said.
        source: Reason,
    },
    /// Nothing arrived for too long.
    #[error("registry '{registry}' sent nothing for {seconds} s: pull again to continue")]
    Stalled {
        /// Which registry.
        registry: String,
        /// How long we waited.
        seconds: u64,
    },
    /// HTTP 429.
    #[error("registry '{0}' allows no more pulls for now (429): wait a while, or log in there")]
    RateLimited(String),
    /// Any other HTTP status.
    #[error(
        "registry '{registry}' answered with status {status}: try again later, or ask who runs it"
    )]
    Status {
        /// Which registry.
        registry: String,
        /// The HTTP status.
        status: u16,
    },
    /// It sends us where we do not go.
    #[error("registry '{registry}' redirects to '{target}', which is not safe to follow")]
    Redirect {
        /// Which registry.
        registry: String,
        /// Where it points.
        target: String,
    },
    /// No token to be had.
    #[error("registry '{registry}' refused an anonymous login")]
    Login {
        /// Which registry.
        registry: String,
        /// What it said.
        source: Reason,
    },
    /// Content does not have the digest it was asked for by.
    #[error(
        "{what} is not what it should be: expected {expected}, got {actual}; its source is damaged or hostile"
    )]
    DigestMismatch {
        /// `layer`, `manifest of …`.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is longer or shorter than declared.
    #[error("{what} has the wrong size: {declared} bytes declared, {relation} {actual} sent")]
    SizeMismatch {
        /// `layer …`.
        what: String,
        /// By the manifest.
        declared: u64,
        /// `only` or `at least`.
        relation: &'static str,
        /// What came.
        actual: u64,
    },
    /// Larger than anything sensible of its kind.
    #[error("{what} is too large: at most {limit} bytes are accepted")]
    TooLarge {
        /// `manifest of …`.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// A document that does not follow the image-spec.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// `manifest of …`.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image exists, for other machines.
    #[error(
        "image '{image}' is not made for {wanted}: it is for {available}; choose with --platform"
    )]
    NoPlatform {
        /// Which image.
        image: String,
        /// What was asked for.
        wanted: Platform,
        /// What is there.
        available: String,
    },
    /// A blob of the store is gone or damaged.
    #[error("{what} is missing or damaged in the local store: pull the image again")]
    Damaged {
        /// `layer …`, `manifest …`.
        what: String,
    },
    /// The engine does not say which layers it wants.
    #[error("the engine cannot take layers")]
    Engine {
        /// What it said.
        #[source]
        source: SinkError,
    },
    /// The engine could not take a layer.
    #[error("layer {layer} cannot be unpacked")]
    Sink {
        /// The compressed layer's digest, shortened.
        layer: String,
        /// What the engine said.
        #[source]
        source: SinkError,
    },
    /// The user's login is not good there, or nobody's is needed.
    #[error(
        "registry '{registry}' does not let you push '{image}': log in (isolazi login {registry}), or ask for access"
    )]
    Denied {
        /// Which registry.
        registry: String,
        /// What was to be pushed.
        image: String,
    },
    /// The registry finds fault with what it is sent.
    #[error("registry '{registry}' does not take {what} (status {status}): {reason}")]
    Rejected {
        /// Which registry.
        registry: String,
        /// `layer …`.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// Wrong name or password.
    #[error(
        "registry '{0}' does not accept this user name and password: log in again (isolazi login {0})"
    )]
    BadLogin(String),
    /// The user's logins cannot be read.
    #[error(transparent)]
    Credentials(#[from] super::credentials::CredentialError),
    /// Neither a name nor an id of the store.
    #[error("no such image: {0}; isolazi images lists them")]
    NoSuchImage(String),
    /// The start of several ids.
    #[error("'{0}' is the start of several image ids; give more of it")]
    AmbiguousId(String),
    /// No space left.
    #[error("the disk that holds '{}' is full: free some space and try again", .0.display())]
    DiskFull(PathBuf),
    /// The store's files.
    #[error("cannot {action} '{}'", path.display())]
    Io {
        /// What was tried: `write`, `rename`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ImageError {
    /// The error of a file operation; a full disk has its own.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        match full {
            true => Self::DiskFull(path.to_owned()),
            false => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }

    /// Content of another length than `declared`.
    pub(crate) fn wrong_size(what: &str, declared: u64, actual: u64) -> Self {
        Self::SizeMismatch {
            what: what.to_owned(),
            declared,
            relation: if actual < declared {
                "only"
            } else {
                "at least"
            },
            actual,
        }
    }

    /// Whether the same request may well succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } | Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether another registry might have done better.
    pub(crate) fn is_the_registrys(&self) -> bool {
        !matches!(
            self,
            Self::Engine { .. } | Self::Sink { .. } | Self::DiskFull(_) | Self::Io { .. }
        )
    }

    /// Whether what has arrived so far is worth keeping for the next pull.
    pub(crate) fn leaves_resumable(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::RateLimited(_) | Self::RegistryUnknown { .. } | Self::Login { .. }
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = ImageError::io(
            "write",
            Path::new("/x"),
            io::Error::from(io::ErrorKind::StorageFull),
        );
        assert!(matches!(error, ImageError::DiskFull(_)));
    }
}
