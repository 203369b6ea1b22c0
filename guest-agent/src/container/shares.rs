//! Sources of bind mounts that the machine shares with the guest.

use std::path::{Component, Path, PathBuf};

use isolazi_protocol::{ErrorCode, WireError};

use crate::guest::shares;

/// The path of `subpath` in the share `tag`.
pub(super) fn locate(tag: &str, subpath: &str) -> Result<PathBuf, WireError> {
    let inside = Path::new(subpath);
    let stays = |part| matches!(part, Component::Normal(_));
    if !inside.components().all(stays) {
        return Err(WireError::new(
            ErrorCode::InvalidArgument,
            format!("'{subpath}' leads out of its shared folder"),
        ));
    }
    let share = shares::attach(tag)
        .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(share.join(inside))
}
