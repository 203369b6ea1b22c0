//! The lock of those who enter the namespaces, and of the keeper when it leaves.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::folder;

/// Waits for whoever is just entering or leaving.
pub(super) fn lock(root: &Path) -> io::Result<File> {
    let folder = folder(root);
    fs::create_dir_all(root)?;
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let lock = open_lock(root)?;
    lock.lock()?;
    Ok(lock)
}

/// The lock, if nobody has it.
pub(super) fn try_lock(root: &Path) -> io::Result<Option<File>> {
    let lock = open_lock(root)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_lock(root: &Path) -> io::Result<File> {
    let path = folder(root).join("lock");
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}
