//! Sources of bind mounts that the machine shares with the guest.

use std::path::{Component, Path, PathBuf};

use isolazi_protocol::{ErrorCode, WireError};

use crate::guest::shares;

/// The path of `subpath` in the share `tag`.
pub(super) fn locate(tag: &str, subpath: &str) -> Result<PathBuf, WireError> {
    let inside = inside(subpath)?;
    let share = shares::attach(tag)
        .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(share.join(inside))
}

/// The path below a share, which never leads out of it by its words.
pub(super) fn inside(subpath: &str) -> Result<&Path, WireError> {
    let path = Path::new(subpath);
    let stays = |part| matches!(part, Component::Normal(_));
    match path.components().all(stays) {
        true => Ok(path),
        false => Err(WireError::new(
            ErrorCode::InvalidArgument,
            format!("'{subpath}' leads out of its shared folder"),
        )),
    }
}
