//! The store of unpacked layers.
//!
//! ```text
//! layers/
//! ├── sha256/<hex of the diff-id>/diff    whole, on disk, and never changed again
//! │                              /for-…   copies with other owners, see `copies`
//! ├── .tmp-<pid>-<n>/diff                 being unpacked; locked while its maker lives
//! ├── .lock                               held for the moment between making and locking one
//! └── .use                                held while it matters which layers there are, see `prune`
//! ```
//!
//! A layer is unpacked aside, written through to disk, and then renamed, so
//! that whatever has its final name is complete, also after a power failure.
//! What a crash leaves behind carries no lock and is removed at the next
//! [`LayerStore::sweep`]; the kernel drops the lock of whoever died.

mod copies;
mod prune;

use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isolazi_protocol::{Compression, Digest, ErrorCode};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{fsync, syncfs};

use crate::sys::fs;

use super::remove::remove_at;
use super::unpack::{Options, UnpackError, Unpacked, unpack};

pub use prune::LayerHold;

const TEMP_PREFIX: &str = ".tmp-";
const LOCK: &[u8] = b".lock";
/// The layer's content, within its folder.
const CONTENT: &str = "diff";

/// Why a layer is not in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store's own folders cannot be made or read.
    #[error("cannot use the layer store at {}", path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A layer's folder cannot be made, written through or renamed.
    #[error("cannot {action} layer {diff_id}")]
    Layer {
        /// What was tried.
        action: &'static str,
        /// The layer.
        diff_id: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The layer's content is bad, or the disk is full.
    #[error("cannot unpack layer {diff_id}")]
    Unpack {
        /// The layer.
        diff_id: Digest,
        /// What is wrong.
        #[source]
        source: UnpackError,
    },
    /// The content is another than was asked for.
    #[error("layer {expected} has the content of {actual}; pull the image again")]
    Mismatch {
        /// The diff-id of the image's config.
        expected: Digest,
        /// That of the bytes that came.
        actual: Digest,
    },
}

impl StoreError {
    /// The code that says on the wire whose fault it is.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unpack { source, .. } => source.code(),
            Self::Mismatch { .. } => ErrorCode::BadLayer,
            Self::Open { source, .. } | Self::Layer { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorCode::Permission,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::StorageFull,
                _ => ErrorCode::Internal,
            },
        }
    }
}

/// The store. Cloning is cheap; all clones are the same store.
#[derive(Debug, Clone)]
pub struct LayerStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Of `layers/sha256/`.
    path: PathBuf,
    /// `layers/`
    top: OwnedFd,
    /// `layers/sha256/`
    complete: OwnedFd,
    next_temp: AtomicU64,
}

impl Shared {
    fn content_path(&self, diff_id: &Digest) -> PathBuf {
        self.path.join(diff_id.hex()).join(CONTENT)
    }
}

impl LayerStore {
    /// Opens the store below `root`, the data root, and makes it where there is
    /// none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("layers");
        Self::open_at(&path).map_err(|source| StoreError::Open { path, source })
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let complete = path.join("sha256");
        let is_new = !complete.is_dir();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&complete)?;
        let store = Self {
            shared: Arc::new(Shared {
                path: complete.clone(),
                top: fs::open_dir(path)?,
                complete: fs::open_dir(&complete)?,
                next_temp: AtomicU64::new(0),
            }),
        };
        if is_new {
            fsync(&store.shared.top)?;
        }
        Ok(store)
    }

    /// Where the content of a layer is, if the store has it: a folder for
    /// overlayfs's `lowerdir`.
    pub fn path(&self, diff_id: &Digest) -> Option<PathBuf> {
        self.contains(diff_id)
            .then(|| self.shared.content_path(diff_id))
    }

    /// Whether the store has a layer.
    pub fn contains(&self, diff_id: &Digest) -> bool {
        fs::stat_at(self.shared.complete.as_fd(), diff_id.hex().as_bytes())
            .is_ok_and(|stat| fs::is_dir(&stat))
    }

    /// Those of `diff_ids` that the store lacks, each once.
    pub fn missing(&self, diff_ids: &[Digest]) -> Vec<Digest> {
        let mut missing: Vec<Digest> = Vec::new();
        for diff_id in diff_ids {
            if !missing.contains(diff_id) && !self.contains(diff_id) {
                missing.push(diff_id.clone());
            }
        }
        missing
    }

    /// Unpacks the layer that `reader` gives, compares its digest and keeps it.
    /// Returns where its content is. Blocks; on an error nothing is left.
    ///
    /// Where the store has the layer already, `reader` is not read.
    pub fn put(
        &self,
        diff_id: &Digest,
        compression: Compression,
        reader: impl Read + Send,
        options: &Options,
    ) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.path(diff_id) {
            return Ok(path);
        }
        let pending = self.begin(diff_id)?;
        let unpacked =
            unpack(reader, compression, pending.content(), options).map_err(|source| {
                StoreError::Unpack {
                    diff_id: diff_id.clone(),
                    source,
                }
            })?;
        pending.commit(&unpacked)
    }

    /// Makes room for a layer.
    pub fn begin(&self, diff_id: &Digest) -> Result<PendingLayer, StoreError> {
        self.begin_pending(diff_id)
            .map_err(|source| StoreError::Layer {
                action: "make a folder for",
                diff_id: diff_id.clone(),
                source,
            })
    }

    fn begin_pending(&self, diff_id: &Digest) -> io::Result<PendingLayer> {
        let temp = self.make_temp()?;
        Ok(PendingLayer {
            content: make_folder(temp.lock.as_fd(), CONTENT, 0o755)?,
            diff_id: diff_id.clone(),
            temp,
        })
    }

    fn make_temp(&self) -> io::Result<TempFolder> {
        // Without it, a cleaner could come between making and locking.
        let _guard = self.lock(FlockArg::LockShared)?;
        loop {
            let number = self.shared.next_temp.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMP_PREFIX}{}-{number}", std::process::id());
            match make_folder(self.shared.top.as_fd(), &name, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(folder) => {
                    let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
                    return Ok(TempFolder {
                        lock: lock.map_err(|(_, error)| error)?,
                        shared: Arc::clone(&self.shared),
                        name,
                        renamed: false,
                    });
                }
            }
        }
    }

    fn lock(&self, kind: FlockArg) -> io::Result<Flock<OwnedFd>> {
        let file = fs::open_lock_at(self.shared.top.as_fd(), LOCK)?;
        Flock::lock(file, kind).map_err(|(_, error)| error.into())
    }

    /// Removes what interrupted unpacks of dead processes have left. Blocks.
    pub fn sweep(&self) {
        let top = self.shared.top.as_fd();
        for (name, _lock) in self.claim_leftovers().unwrap_or_default() {
            // One that cannot be removed is in nobody's way.
            let _ = remove_at(top, &name);
        }
    }

    /// Locks the temporary folders that nobody has locked.
    fn claim_leftovers(&self) -> io::Result<Vec<(Vec<u8>, Flock<OwnedFd>)>> {
        let top = self.shared.top.as_fd();
        let _guard = self.lock(FlockArg::LockExclusive)?;
        let mut claimed = Vec::new();
        for name in fs::list_dir(top)? {
            if !name.starts_with(TEMP_PREFIX.as_bytes()) {
                continue;
            }
            // One that is gone was finished in this moment.
            let Ok(folder) = fs::open_dir_at(top, &name) else {
                continue;
            };
            if let Ok(lock) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                claimed.push((name, lock));
            }
        }
        Ok(claimed)
    }
}

/// Makes a folder with exactly this mode and opens it.
fn make_folder(dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    mkdirat(dir, name, Mode::S_IRWXU)?;
    let made = fs::open_dir_at(dir, name.as_bytes())?;
    fchmod(&made, Mode::from_bits_truncate(mode))?;
    Ok(made)
}

/// A locked folder of a name that nothing else refers to. Dropping it removes
/// it; what cannot be removed goes at the next open.
#[derive(Debug)]
struct TempFolder {
    shared: Arc<Shared>,
    name: String,
    lock: Flock<OwnedFd>,
    renamed: bool,
}

impl TempFolder {
    /// Gives it the final name; `false` where that is taken.
    fn publish(&mut self, name: &str) -> io::Result<bool> {
        let Shared { top, complete, .. } = &*self.shared;
        match renameat(top, self.name.as_str(), complete, name) {
            Ok(()) => self.renamed = true,
            Err(Errno::EEXIST | Errno::ENOTEMPTY) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        fsync(complete)?;
        Ok(true)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // Once renamed, the old name may be somebody else's.
        if !self.renamed {
            let _ = remove_at(self.shared.top.as_fd(), self.name.as_bytes());
        }
    }
}

/// A layer on its way into the store. Dropping it removes it.
#[derive(Debug)]
pub struct PendingLayer {
    content: OwnedFd,
    diff_id: Digest,
    temp: TempFolder,
}

impl PendingLayer {
    /// The folder to unpack into.
    pub fn content(&self) -> BorrowedFd<'_> {
        self.content.as_fd()
    }

    /// Puts the layer into the store, where its content is what it should be.
    /// Where another has put it there meanwhile, that one stays.
    pub fn commit(mut self, unpacked: &Unpacked) -> Result<PathBuf, StoreError> {
        if unpacked.diff_id != self.diff_id {
            return Err(StoreError::Mismatch {
                expected: self.diff_id.clone(),
                actual: unpacked.diff_id.clone(),
            });
        }
        // Content before the name that vouches for it. One syncfs takes a tenth
        // of a second where an fsync for each of ten thousand files takes twenty.
        let kept = syncfs(&self.content)
            .map_err(io::Error::from)
            .and_then(|()| self.temp.publish(self.diff_id.hex()));
        match kept {
            Ok(_) => Ok(self.temp.shared.content_path(&self.diff_id)),
            Err(source) => Err(StoreError::Layer {
                action: "keep",
                diff_id: self.diff_id.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
