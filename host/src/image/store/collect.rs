//! Taking names away, and removing the blobs that no name leads to.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use isolazi_protocol::Digest;

use super::super::error::ImageError;
use super::super::reference::Reference;
use super::lock::Alone;
use super::{Entry, Image, ImageStore, MAX_ENTRY_BYTES, files, names, read_limited};

/// A blob that no image needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl ImageStore {
    /// Takes a name away; the blobs stay until [`ImageStore::collect`].
    /// Whether there was one.
    pub fn untag(&self, reference: &Reference) -> Result<bool, ImageError> {
        let path = self.entry_path(reference);
        if !path.exists() {
            return Ok(false);
        }
        files::remove(&path)?;
        files::sync_parent(&path)?;
        Ok(true)
    }

    /// The blobs that no name leads to.
    pub fn unused(&self) -> Result<Vec<Unused>, ImageError> {
        let used = self.used()?;
        let mut unused = Vec::new();
        each_entry(&self.blobs(), |path, size| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(digest) = format!("sha256:{name}").parse::<Digest>()
                && !used.contains(&digest)
            {
                unused.push(Unused { digest, size });
            }
            Ok(())
        })?;
        Ok(unused)
    }

    /// What the blobs take on disk.
    pub fn size(&self) -> Result<u64, ImageError> {
        let mut total = 0;
        each_entry(&self.blobs(), |_, size| {
            total += size;
            Ok(())
        })?;
        Ok(total)
    }

    /// What the blobs take that none of `images` needs.
    pub fn size_without(&self, images: &[Image]) -> Result<u64, ImageError> {
        let mut needed: HashSet<&str> = HashSet::new();
        for image in images {
            needed.extend([image.config_digest.hex(), image.manifest_digest.hex()]);
            needed.extend(image.layers.iter().map(|layer| layer.digest.hex()));
        }
        let mut total = 0;
        each_entry(&self.blobs(), |path, size| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            total += if needed.contains(&*name) { 0 } else { size };
            Ok(())
        })?;
        Ok(total)
    }

    /// Removes the blobs that no name leads to, and says which they were.
    pub fn collect(&self, _: &Alone) -> Result<Vec<Unused>, ImageError> {
        let unused = self.unused()?;
        for blob in &unused {
            self.remove_blob(&blob.digest)?;
        }
        remove_empty(&self.manifests(), false);
        Ok(unused)
    }

    /// Removes what interrupted downloads have left; returns its size.
    pub fn discard_interrupted(&self, _: &Alone) -> Result<u64, ImageError> {
        let mut freed = 0;
        each_entry(&self.scratch(), |path, size| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_partial = format!("sha256:{name}").parse::<Digest>().is_ok();
            if is_partial || name.ends_with(super::SCRATCH_SUFFIX) {
                files::remove(path)?;
                freed += size;
            }
            Ok(())
        })?;
        Ok(freed)
    }

    /// The blobs that names lead to, as far as they can be told: those of an
    /// image with a damaged manifest have to be pulled again anyway.
    fn used(&self) -> Result<HashSet<Digest>, ImageError> {
        let mut used = HashSet::new();
        each_below(&self.manifests(), &mut |path: &Path| {
            if path.extension().is_none_or(|ending| ending != names::ENTRY) {
                return Ok(());
            }
            let bytes = match read_limited(path, MAX_ENTRY_BYTES) {
                // Untagged in this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                read => read.map_err(|error| ImageError::io("read", path, error))?,
            };
            let Ok(entry) = serde_json::from_slice::<Entry>(&bytes) else {
                return Ok(());
            };
            if let Ok((manifest, _)) = self.manifest(&entry.descriptor.digest) {
                used.insert(manifest.config.digest);
                used.extend(manifest.layers.into_iter().map(|(layer, _)| layer.digest));
            }
            used.insert(entry.descriptor.digest);
            Ok(())
        })?;
        Ok(used)
    }
}

/// Every file in a folder, with its size.
fn each_entry(
    folder: &Path,
    mut visit: impl FnMut(&Path, u64) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let unreadable = |error| ImageError::io("read", folder, error);
    for found in fs::read_dir(folder).map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        match found.metadata() {
            Ok(metadata) if metadata.is_file() => visit(&found.path(), metadata.len())?,
            _ => {}
        }
    }
    Ok(())
}

/// Every file below a folder.
fn each_below(
    top: &Path,
    visit: &mut dyn FnMut(&Path) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| ImageError::io("read", &folder, error);
        for found in fs::read_dir(&folder).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            match found.file_type().map_err(unreadable)?.is_dir() {
                true => folders.push(found.path()),
                false => visit(&found.path())?,
            }
        }
    }
    Ok(())
}

/// Removes the folders that have nothing in them; they are in nobody's way, so
/// one that cannot be removed stays.
fn remove_empty(folder: &Path, itself: bool) {
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        if found.file_type().is_ok_and(|it| it.is_dir()) {
            remove_empty(&found.path(), true);
        }
    }
    if itself {
        let _ = fs::remove_dir(folder);
    }
}
