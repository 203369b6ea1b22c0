//! Content on its way into the store: hashed and written beside it, until it is
//! known to be wanted.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use isolazi_protocol::{Compression, Digest};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::super::error::ImageError;
use super::super::store::ImageStore;
use super::{ArchiveError, decompress};

const CHUNK: usize = 256 << 10;

/// Content that is on disk and whose digest is known.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// `None` where the store has it.
    aside: Option<TempPath>,
    stored: PathBuf,
}

impl Staged {
    /// Hashes what `source` gives, and writes it down unless the store has a
    /// blob of the digest and size that it is said to have.
    pub(super) fn read(
        store: &ImageStore,
        source: &mut impl Read,
        announced: Option<(&Digest, u64)>,
    ) -> Result<Self, ArchiveError> {
        let known = announced.is_some_and(|(digest, size)| store.has_blob(digest, size));
        let mut aside = match known {
            true => None,
            false => Some(store.scratch_file()?),
        };
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::reading(error)),
            };
            hasher.update(&buffer[..read]);
            size += read as u64;
            if let Some(file) = &mut aside {
                file.write_all(&buffer[..read])
                    .map_err(|error| ImageError::io("write", file.path(), error))?;
            }
        }
        let digest = Digest::from_bytes(&hasher.finalize().into());
        if let Some((expected, _)) = announced
            && *expected != digest
        {
            return Err(ArchiveError::Image(ImageError::DigestMismatch {
                what: format!(
                    "blob {} of the archive",
                    super::super::text::short(expected)
                ),
                expected: expected.clone(),
                actual: digest,
            }));
        }
        Ok(Self {
            stored: store.blob_path(&digest),
            aside: aside.map(tempfile::NamedTempFile::into_temp_path),
            digest,
            size,
        })
    }

    pub(super) fn open(&self) -> Result<File, ArchiveError> {
        let path = self.path();
        File::open(path).map_err(|error| ImageError::io("open", path, error).into())
    }

    /// All of it, where it is no longer than a document of its kind may be.
    pub(super) fn document(&self, what: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.size > limit {
            return Err(ArchiveError::Image(ImageError::TooLarge {
                what: format!("{what} of the archive"),
                limit,
            }));
        }
        let path = self.path();
        fs::read(path).map_err(|error| ImageError::io("read", path, error).into())
    }

    /// How it is compressed, by its first bytes.
    pub(super) fn compression(&self) -> Result<Compression, ArchiveError> {
        let mut start = Vec::new();
        self.open()?
            .take(16)
            .read_to_end(&mut start)
            .map_err(ArchiveError::reading)?;
        decompress::compression(&start).map_err(ArchiveError::reading)
    }

    /// Makes it part of the store. May be called again.
    pub(super) fn commit(&mut self) -> Result<(), ArchiveError> {
        let Some(aside) = self.aside.take() else {
            return Ok(());
        };
        let failed = |error| ImageError::io("store", &self.stored, error);
        File::open(&aside)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        aside
            .persist(&self.stored)
            .map_err(|error| failed(error.error))?;
        super::super::store::sync_parent(&self.stored)?;
        Ok(())
    }

    fn path(&self) -> &Path {
        self.aside.as_deref().unwrap_or(&self.stored)
    }
}

/// Hashes what is read through it.
pub(crate) struct Hashed<R> {
    source: R,
    hasher: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            hasher: Sha256::new(),
        }
    }

    /// Of all that was read.
    pub(crate) fn digest(self) -> Digest {
        Digest::from_bytes(&self.hasher.finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
