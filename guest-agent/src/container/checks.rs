//! What all checks of what was asked for share.

use std::path::{Component, Path};

use isolazi_protocol::{ErrorCode, WireError};

/// What was asked for cannot be.
pub(super) fn invalid(message: String) -> WireError {
    WireError::new(ErrorCode::InvalidArgument, message)
}

/// Checks a path within a container; `what` says whose it is.
pub(super) fn absolute(what: &str, path: &str) -> Result<(), WireError> {
    let parts = Path::new(path);
    let climbs = parts.components().any(|part| part == Component::ParentDir);
    if parts.is_absolute() && !climbs && !path.contains('\0') {
        return Ok(());
    }
    Err(invalid(format!(
        "{what} '{path}' must be an absolute path without '..' and NUL"
    )))
}
