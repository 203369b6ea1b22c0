//! Files that appear whole or not at all, and stay after a power cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::super::error::ImageError;

/// Creates `target` or replaces it, by way of a temporary file in `scratch`,
/// which must be on the same file system.
pub(super) fn write_atomically(
    scratch: &Path,
    target: &Path,
    bytes: &[u8],
) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("write", target, error);
    let mut file = tempfile::Builder::new()
        .suffix(super::SCRATCH_SUFFIX)
        .tempfile_in(scratch)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    if let Some(parent) = target.parent() {
        create_durably(parent)?;
    }
    file.persist(target).map_err(|error| failed(error.error))?;
    sync_parent(target)
}

/// `create_dir_all`, with every new entry on disk.
fn create_durably(folder: &Path) -> Result<(), ImageError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_durably(parent)?;
    }
    match fs::create_dir(folder) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(ImageError::io("create", folder, error)),
        Ok(()) => sync_parent(folder),
    }
}

/// Puts the entry of `path` in its folder on disk. Windows has no such call
/// and journals names itself.
pub(crate) fn sync_parent(path: &Path) -> Result<(), ImageError> {
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        match File::open(parent).and_then(|folder| folder.sync_all()) {
            // It was empty, and somebody has just removed it for that.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            synced => synced.map_err(|error| ImageError::io("sync", parent, error))?,
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Opens a file for reading and writing, creating it where it is missing and
/// keeping what it holds where it is not.
pub(super) fn open_or_create(path: &Path) -> Result<File, ImageError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| ImageError::io("open", path, error))
}
