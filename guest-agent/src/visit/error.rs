//! Why a container could not be looked into.

use std::io;

use isolazi_protocol::{ErrorCode, WireError};

use crate::rootfs::unpack::{ShownName, UnpackError};

/// Why a container could not be looked into, or copied into.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// It has nothing there.
    #[error("the container has no file or folder {0}")]
    NotFound(String),
    /// It has something else there.
    #[error("{0} in the container is not a folder")]
    NotAFolder(String),
    /// The path leads to what is not made of files.
    #[error("{0} cannot be copied: it is the kernel's, not the container's")]
    Kernel(String),
    /// A name that a layer would take for a whiteout.
    #[error(
        "the container's changes cannot become a layer: '{0}' has a name that means a deletion there; rename it"
    )]
    Whiteout(ShownName),
    /// It runs no more.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// Somebody else is at it.
    #[error("container {0} is being changed by another command; try again when that is done")]
    Busy(String),
    /// The archive did not fit in.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Nobody takes what is read.
    #[error("the reader has gone away")]
    Unread(#[source] io::Error),
    /// The system refused.
    #[error("cannot {action} '{path}'")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: ShownName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl VisitError {
    pub(super) fn io(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = ShownName::from(path);
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<VisitError> for WireError {
    fn from(error: VisitError) -> Self {
        let code = match &error {
            VisitError::NotFound(_) => ErrorCode::NotFound,
            VisitError::NotAFolder(_) | VisitError::Kernel(_) | VisitError::Whiteout(_) => {
                ErrorCode::InvalidArgument
            }
            VisitError::NotRunning(_) | VisitError::Busy(_) => ErrorCode::Conflict,
            VisitError::Unpack(error) => match error.code() {
                ErrorCode::BadLayer => ErrorCode::InvalidArgument,
                code => code,
            },
            VisitError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::Permission
            }
            VisitError::Io { .. } | VisitError::Unread(_) => ErrorCode::Internal,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::new(code, message)
    }
}
