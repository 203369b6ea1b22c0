//! Blobs that are made here, whose digest is known only at their end.

use std::io::Write;
use std::path::{Path, PathBuf};

use isolazi_protocol::Digest;
use sha2::{Digest as _, Sha256};

use super::super::error::ImageError;
use super::ImageStore;
use super::files::sync_parent;

/// A blob under way. Dropping it throws it away.
#[derive(Debug)]
pub struct FreshBlob {
    file: tempfile::NamedTempFile,
    hasher: Sha256,
    size: u64,
    blobs: PathBuf,
}

impl ImageStore {
    /// Begins a blob.
    pub fn fresh_blob(&self) -> Result<FreshBlob, ImageError> {
        let scratch = self.scratch();
        let file = tempfile::Builder::new()
            .suffix(super::SCRATCH_SUFFIX)
            .tempfile_in(&scratch)
            .map_err(|error| ImageError::io("write", &scratch, error))?;
        Ok(FreshBlob {
            file,
            hasher: Sha256::new(),
            size: 0,
            blobs: self.blobs(),
        })
    }
}

impl FreshBlob {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(failed(self.file.path()))
    }

    /// Makes it part of the store; returns its digest and length.
    pub fn finish(self) -> Result<(Digest, u64), ImageError> {
        let digest = Digest::from_bytes(&self.hasher.finalize().into());
        let target = self.blobs.join(digest.hex());
        let synced = self.file.as_file().sync_all();
        synced.map_err(failed(&target))?;
        let kept = self.file.persist(&target);
        kept.map_err(|error| failed(&target)(error.error))?;
        sync_parent(&target)?;
        Ok((digest, self.size))
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ImageError {
    move |error| ImageError::io("write", path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let mut blob = store.fresh_blob().unwrap();
        blob.write(b"one ").unwrap();
        blob.write(b"two").unwrap();
        let (digest, size) = blob.finish().unwrap();
        assert_eq!(digest, super::super::digest_of(b"one two"));
        assert!(store.has_blob(&digest, size));
        drop(store.fresh_blob().unwrap());
        let left = std::fs::read_dir(folder.path().join("blobs/.partial")).unwrap();
        assert_eq!(left.count(), 0);
    }
}
