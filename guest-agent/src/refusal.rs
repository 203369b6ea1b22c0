//! What the stores say when the file system refuses.

use std::io;
use std::path::Path;

use isolazi_protocol::{ErrorCode, WireError};

/// As much of what a user has typed as an error can show in one line.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A file or folder of the engine's with which something could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct Refusal {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl Refusal {
    /// For `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

impl From<&Refusal> for WireError {
    fn from(refusal: &Refusal) -> Self {
        let source = &refusal.source;
        let (code, hint) = match source.kind() {
            io::ErrorKind::StorageFull => {
                (ErrorCode::StorageFull, "; free some space and try again")
            }
            io::ErrorKind::PermissionDenied => (ErrorCode::Permission, ""),
            _ => (ErrorCode::Internal, ""),
        };
        Self::new(code, format!("{refusal}: {source}{hint}"))
    }
}
