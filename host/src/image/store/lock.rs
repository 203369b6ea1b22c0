//! Who may remove blobs, and when.
//!
//! Whoever adds an image writes its blobs first and the name that leads to them
//! last. In between they look unused, so everyone who adds holds the lock, which
//! many can, and whoever removes what is unused needs it alone.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use super::super::error::ImageError;
use super::ImageStore;
use super::files::open_or_create;

const POLL: Duration = Duration::from_millis(20);

/// While it lives, no blob is removed.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: Option<File>,
}

/// While it lives, no image is added.
#[derive(Debug)]
pub struct Alone {
    _lock: Option<File>,
}

impl ImageStore {
    /// Keeps all blobs from being removed. Blocks while some are.
    pub(crate) fn hold(&self) -> Result<Hold, ImageError> {
        let file = self.lock_file()?;
        let lock = match file.lock_shared() {
            Ok(()) => Some(file),
            // Some network file systems have no locks.
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => None,
            Err(error) => return Err(ImageError::io("lock", &self.lock_path_of_all(), error)),
        };
        Ok(Hold { _lock: lock })
    }

    /// Waits `patience` for all who add images to be done; `None` where they
    /// are not.
    pub async fn alone(&self, patience: Duration) -> Result<Option<Alone>, ImageError> {
        let deadline = Instant::now() + patience;
        let file = self.lock_file()?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Alone { _lock: Some(file) })),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error))
                    if error.kind() == std::io::ErrorKind::Unsupported =>
                {
                    return Ok(Some(Alone { _lock: None }));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(ImageError::io("lock", &self.lock_path_of_all(), error));
                }
            }
        }
    }

    fn lock_file(&self) -> Result<File, ImageError> {
        open_or_create(&self.lock_path_of_all())
    }

    fn lock_path_of_all(&self) -> std::path::PathBuf {
        self.scratch().join("store.lock")
    }
}
