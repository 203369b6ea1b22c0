//! What the engine needs and the subsystem may not have made.

use std::fs::{self, File};

use crate::guest::DATA_ROOT;
use crate::guest::boot;
use crate::guest::error::GuestError;

/// Goes with the distribution's end, and so tells of a new start.
const FOLDER: &str = "/run/isolazi";
const MARK: &str = "/run/isolazi/prepared";

/// Makes what is missing, once in the life of the distribution. Others wait
/// meanwhile.
pub(super) fn all() -> Result<(), GuestError> {
    fs::create_dir_all(DATA_ROOT).map_err(GuestError::setup("create", DATA_ROOT))?;
    let root = File::open(DATA_ROOT).map_err(GuestError::setup("open", DATA_ROOT))?;
    root.lock().map_err(GuestError::setup("lock", DATA_ROOT))?;
    if fs::exists(MARK).unwrap_or(false) {
        return Ok(());
    }
    boot::mount_missing()?;
    // Both are for some containers only: the subsystem's kernel may know better.
    for step in [boot::enable_controllers, boot::share_mounts] {
        let _ = step();
    }
    fs::create_dir_all(FOLDER).map_err(GuestError::setup("create", FOLDER))?;
    fs::write(MARK, []).map_err(GuestError::setup("write", MARK))
}
