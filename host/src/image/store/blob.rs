//! Blobs on their way into the store.
//!
//! ```text
//!  blobs/.partial/<hex>      grows while it is downloaded; kept when the
//!        │                   connection breaks, so that the next pull resumes
//!        │ verified, fsync, rename
//!        ▼
//!  blobs/sha256/<hex>        whole, never changes
//! ```
//!
//! Who writes a partial blob holds the lock `.partial/<first two digits>.lock`.
//! Lock files are few and stay, because deleting a file that others may be
//! about to lock cannot be done without a race.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::super::error::ImageError;
use super::ImageStore;
use super::files::{open_or_create, remove, sync_parent};

const LOCK_POLL: Duration = Duration::from_millis(50);
/// How often a partial blob that is to be thrown away is tried to be locked.
const DISCARD_ATTEMPTS: u32 = 40;
/// Large enough that the calls do not matter, small enough to stay in cache.
const READ_BYTES: usize = 256 << 10;

/// What [`ImageStore::begin`] found.
#[derive(Debug)]
pub(crate) enum Begin {
    /// The blob is whole already.
    Present,
    /// It is ours to complete.
    Partial(Partial),
}

/// A blob that is not whole yet. Holds its lock.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    length: u64,
    _lock: File,
}

/// Which partial blobs to throw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    Any,
    /// Those without a single byte.
    Empty,
}

/// Bytes of a blob in order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// On disk already from an earlier attempt: to be hashed only.
    Old(Bytes),
    /// To be hashed and written.
    New(Bytes),
}

impl Partial {
    /// Bytes that an earlier attempt has left.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Hashes and writes what arrives until the channel closes. Blocks: the
    /// one thread per blob that does all its disk work.
    pub(crate) fn absorb(
        mut self,
        pieces: &mut mpsc::Receiver<Piece>,
    ) -> (Self, Result<Digest, ImageError>) {
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.blocking_recv() {
            let (Piece::Old(bytes) | Piece::New(bytes)) = &piece;
            hasher.update(bytes);
            if let Piece::New(bytes) = &piece
                && let Err(error) = self.file.write_all(bytes)
            {
                let error = ImageError::io("write", &self.path, error);
                return (self, Err(error));
            }
        }
        let digest = Digest::from_bytes(&hasher.finalize().into());
        (self, Ok(digest))
    }

    /// Makes the blob, which has been verified, part of the store.
    pub(crate) fn commit(self) -> Result<(), ImageError> {
        let failed = |error| ImageError::io("store", &self.target, error);
        self.file.sync_all().map_err(failed)?;
        drop(self.file);
        fs::rename(&self.path, &self.target).map_err(failed)?;
        sync_parent(&self.target)
    }

    /// Throws away what there is.
    pub(crate) fn discard(self) -> Result<(), ImageError> {
        drop(self.file);
        remove(&self.path)
    }
}

impl ImageStore {
    /// Starts or resumes a blob of `size` bytes. While another task or process
    /// is at it, calls `waiting` once and waits for the outcome.
    pub(crate) async fn begin(
        &self,
        digest: &Digest,
        size: u64,
        waiting: impl FnOnce() + Send,
    ) -> Result<Begin, ImageError> {
        if self.has_blob(digest, size) {
            return Ok(Begin::Present);
        }
        let lock = open_or_create(&self.lock_path(digest))?;
        let mut waiting = Some(waiting);
        while !try_lock(&lock, &self.lock_path(digest))? {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
        if self.has_blob(digest, size) {
            return Ok(Begin::Present);
        }
        self.open_partial(digest, size, lock).map(Begin::Partial)
    }

    fn open_partial(&self, digest: &Digest, size: u64, lock: File) -> Result<Partial, ImageError> {
        let path = self.partial_path(digest);
        let failed = |error| ImageError::io("open", &path, error);
        let mut file = open_or_create(&path)?;
        let mut length = file.metadata().map_err(failed)?.len();
        if length > size {
            file.set_len(0).map_err(failed)?;
            length = 0;
        }
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        Ok(Partial {
            target: self.blob_path(digest),
            path,
            file,
            length,
            _lock: lock,
        })
    }

    /// Removes what a failed attempt has left of a blob, unless another
    /// process is at it. Blocks for a moment.
    pub(crate) fn discard_partial(
        &self,
        digest: &Digest,
        leftover: Leftover,
    ) -> Result<(), ImageError> {
        let path = self.partial_path(digest);
        let concerned = |found: fs::Metadata| leftover == Leftover::Any || found.len() == 0;
        if !fs::metadata(&path).is_ok_and(concerned) {
            return Ok(());
        }
        let lock = open_or_create(&self.lock_path(digest))?;
        for _ in 0..DISCARD_ATTEMPTS {
            if try_lock(&lock, &self.lock_path(digest))? {
                return remove(&path);
            }
            std::thread::sleep(LOCK_POLL / 2);
        }
        Ok(())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.scratch().join(digest.hex())
    }

    fn lock_path(&self, digest: &Digest) -> PathBuf {
        self.scratch().join(format!("{}.lock", &digest.hex()[..2]))
    }
}

fn try_lock(lock: &File, path: &Path) -> Result<bool, ImageError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Some network file systems have no locks; the digest still protects.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            Ok(true)
        }
        Err(TryLockError::Error(error)) => Err(ImageError::io("lock", path, error)),
    }
}

/// A file that is read ahead by a thread of its own.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// Its bytes in order.
    pub(crate) chunks: mpsc::Receiver<Bytes>,
    /// Their digest, once all have been taken.
    pub(crate) digest: tokio::task::JoinHandle<Result<Digest, ImageError>>,
}

/// Reads at most `length` bytes of a file.
pub(crate) fn read_ahead(path: PathBuf, length: u64) -> ReadAhead {
    let (sender, chunks) = mpsc::channel(8);
    let digest = tokio::task::spawn_blocking(move || {
        read_all(&path, length, &sender).map_err(|error| ImageError::io("read", &path, error))
    });
    ReadAhead { chunks, digest }
}

/// Stops early, with a digest of what was read, when nobody listens any more.
fn read_all(path: &Path, length: u64, sender: &mpsc::Sender<Bytes>) -> std::io::Result<Digest> {
    let mut file = File::open(path)?.take(length);
    let mut hasher = Sha256::new();
    loop {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let read = file
            .by_ref()
            .take(READ_BYTES as u64)
            .read_to_end(&mut buffer)?;
        hasher.update(&buffer);
        if read == 0 || sender.blocking_send(buffer.into()).is_err() {
            return Ok(Digest::from_bytes(&hasher.finalize().into()));
        }
    }
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}
