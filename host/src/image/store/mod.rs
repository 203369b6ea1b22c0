//! Images on this computer.
//!
//! ```text
//!  images/
//!  ├── blobs/
//!  │   ├── sha256/<hex>        layers, configurations, manifests; whole and verified
//!  │   └── .partial/           downloads under way and locks, see `blob`
//!  └── manifests/<registry>/<repository>/<tag>.json
//!                              an image's name, see `names`: a descriptor of
//!                              the manifest of one platform
//! ```
//!
//! Nothing is ever changed in place, so readers need no lock: an entry is
//! written last, when all that it leads to is on disk. Removing what nothing
//! leads to is another matter, see `lock`.

mod blob;
mod collect;
mod files;
mod find;
mod fresh;
mod lock;
mod names;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use isolazi_protocol::{Compression, Digest, one_line};
use serde::{Deserialize, Serialize};

use super::config::{ConfigFile, ImageConfig, MAX_CONFIG_BYTES};
use super::error::ImageError;
use super::manifest::{Descriptor, Document, MAX_MANIFEST_BYTES, Manifest};
use super::platform::Platform;
use super::reference::Reference;
use super::text::{escape, short};

pub use fresh::FreshBlob;

pub(crate) use blob::{Begin, Leftover, Partial, Piece, digest_of, read_ahead};
pub use collect::Unused;
pub(crate) use files::sync_parent;
pub use find::Found;
pub use lock::Alone;

/// Temporary files that [`files::write_atomically`] may leave when killed.
const SCRATCH_SUFFIX: &str = ".tmp";
/// An entry is some hundred bytes long.
const MAX_ENTRY_BYTES: u64 = 64 << 10;
/// Age at which what nobody resumed is removed.
const STALE_PARTIAL: Duration = Duration::from_secs(7 * 24 * 3600);
const STALE_SCRATCH: Duration = Duration::from_secs(3600);

/// The images of one data root. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

/// An image that is in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name.
    pub reference: Reference,
    /// Digest of the manifest of this platform.
    pub manifest_digest: Digest,
    /// Digest of its configuration: Docker's image id.
    pub config_digest: Digest,
    /// What it is made for, where it says so.
    pub platform: Option<Platform>,
    /// Defaults for its containers.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// When it was made, where it says so.
    pub created: Option<SystemTime>,
    /// Bytes of all layers as stored (compressed), each counted once.
    pub size: u64,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob in the store.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// All images, and what is wrong with the others.
#[derive(Debug, Default)]
pub struct Listing {
    /// By name.
    pub images: Vec<Image>,
    /// One line for each entry that could not be read.
    pub warnings: Vec<String>,
}

/// What an entry file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    reference: Reference,
    #[serde(flatten)]
    descriptor: Descriptor,
}

impl ImageStore {
    /// Opens the store below `root` (`~/.isolazi/images`), creating it where it
    /// is missing and removing what was left behind long ago.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let store = Self { root: root.into() };
        for folder in [store.blobs(), store.scratch(), store.manifests()] {
            fs::create_dir_all(&folder)
                .map_err(|error| ImageError::io("create", &folder, error))?;
        }
        store.remove_stale()?;
        Ok(store)
    }

    /// The image of this name; `None` where it has not been pulled.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>, ImageError> {
        let path = self.entry_path(reference);
        match read_limited(&path, MAX_ENTRY_BYTES) {
            Ok(bytes) => self.load(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("read", &path, error)),
        }
    }

    /// All images. An entry that makes no sense is set aside under the ending
    /// `.corrupt`; one whose blobs are damaged is left for the next pull to mend.
    pub fn list(&self) -> Result<Listing, ImageError> {
        let mut listing = Listing::default();
        let mut folders = vec![self.manifests()];
        while let Some(folder) = folders.pop() {
            let unreadable = |error| ImageError::io("read", &folder, error);
            let entries = match fs::read_dir(&folder) {
                // Its last name has just been removed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(unreadable)?,
            };
            for found in entries {
                let found = found.map_err(unreadable)?;
                if found.file_type().map_err(unreadable)?.is_dir() {
                    folders.push(found.path());
                } else if found
                    .path()
                    .extension()
                    .is_some_and(|it| it == names::ENTRY)
                {
                    self.list_entry(&found.path(), &mut listing);
                }
            }
        }
        listing.images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(listing)
    }

    /// Where a blob lies, whether it is there or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether a blob of this length is there. What has another length is
    /// damaged and taken for missing.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest))
            .is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Adds a blob from memory; returns its digest.
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = digest_of(bytes);
        if self.read_blob("blob", &digest, bytes.len() as u64).is_err() {
            files::write_atomically(&self.scratch(), &self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Gives the image whose manifest is the blob `manifest` a name. All its
    /// blobs must be there.
    pub fn tag(&self, reference: &Reference, manifest: &Digest) -> Result<Image, ImageError> {
        let (document, size) = self.manifest(manifest)?;
        let image = self.read_image(reference.clone(), manifest.clone(), &document)?;
        if let Some(layer) = image
            .layers
            .iter()
            .find(|layer| !self.has_blob(&layer.digest, layer.size))
        {
            return Err(damaged("layer", &layer.digest));
        }
        let entry = Entry {
            reference: reference.clone(),
            descriptor: Descriptor {
                media_type: document.media_type.to_owned(),
                digest: manifest.clone(),
                size,
                platform: image.platform.clone(),
            },
        };
        let path = self.entry_path(reference);
        let text = serde_json::to_vec_pretty(&entry)
            .map_err(|error| ImageError::io("write", &path, error.into()))?;
        files::write_atomically(&self.scratch(), &path, &text)?;
        Ok(image)
    }

    /// How long a blob is.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<u64, ImageError> {
        let found = fs::metadata(self.blob_path(digest));
        found
            .map(|it| it.len())
            .map_err(|_| damaged("blob", digest))
    }

    /// How an index would list an image.
    pub(crate) fn descriptor(&self, image: &Image) -> Result<Descriptor, ImageError> {
        let (manifest, size) = self.manifest(&image.manifest_digest)?;
        Ok(Descriptor {
            media_type: manifest.media_type.to_owned(),
            digest: image.manifest_digest.clone(),
            size,
            platform: image.platform.clone(),
        })
    }

    /// A temporary file that can become a blob by a rename.
    pub(crate) fn scratch_file(&self) -> Result<tempfile::NamedTempFile, ImageError> {
        let scratch = self.scratch();
        tempfile::Builder::new()
            .suffix(SCRATCH_SUFFIX)
            .tempfile_in(&scratch)
            .map_err(|error| ImageError::io("create a file in", &scratch, error))
    }

    /// Gives an image that is in the store a further name.
    pub fn add_name(&self, reference: &Reference, manifest: &Digest) -> Result<Image, ImageError> {
        let _hold = self.hold()?;
        self.tag_named(reference, manifest)
    }

    /// Gives an image a name, in place of the stand-in that it has without one.
    pub(crate) fn tag_named(
        &self,
        reference: &Reference,
        manifest: &Digest,
    ) -> Result<Image, ImageError> {
        let image = self.tag(reference, manifest)?;
        self.untag(&Reference::unnamed(manifest))?;
        Ok(image)
    }

    /// Keeps an image that has no name, unless it has one already.
    pub(crate) fn keep_unnamed(&self, manifest: &Digest) -> Result<Image, ImageError> {
        let mut known = self.list()?.images.into_iter();
        match known.find(|image| image.manifest_digest == *manifest) {
            Some(image) => Ok(image),
            None => self.tag(&Reference::unnamed(manifest), manifest),
        }
    }

    /// A small blob, verified.
    pub(crate) fn read_blob(
        &self,
        kind: &str,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let bytes = match read_limited(&path, limit) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(kind, digest));
            }
            Err(error) => return Err(ImageError::io("read", &path, error)),
        };
        match digest_of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(damaged(kind, digest)),
        }
    }

    /// Removes a blob that turned out to be damaged.
    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<(), ImageError> {
        files::remove(&self.blob_path(digest))
    }

    fn load(&self, path: &Path, bytes: &[u8]) -> Result<Image, ImageError> {
        let malformed = |reason: String| ImageError::Malformed {
            what: format!("'{}'", path.display()),
            reason,
        };
        let entry: Entry =
            serde_json::from_slice(bytes).map_err(|error| malformed(escape(&error.to_string())))?;
        if self.entry_path(&entry.reference) != path {
            return Err(malformed(format!("it belongs to {}", entry.reference)));
        }
        let (document, _) = self.manifest(&entry.descriptor.digest)?;
        self.read_image(entry.reference, entry.descriptor.digest, &document)
    }

    fn manifest(&self, digest: &Digest) -> Result<(Manifest, u64), ImageError> {
        let bytes = self.read_blob("manifest", digest, MAX_MANIFEST_BYTES)?;
        let malformed = |reason| ImageError::Malformed {
            what: format!("manifest {}", short(digest)),
            reason,
        };
        match Document::parse(&bytes).map_err(malformed)? {
            Document::Image(manifest) => Ok((manifest, bytes.len() as u64)),
            Document::Index(_) => Err(malformed("it is an index".to_owned())),
        }
    }

    fn read_image(
        &self,
        reference: Reference,
        manifest_digest: Digest,
        manifest: &Manifest,
    ) -> Result<Image, ImageError> {
        let digest = &manifest.config.digest;
        let bytes = self.read_blob("configuration", digest, MAX_CONFIG_BYTES)?;
        assemble(reference, manifest_digest, manifest, &bytes)
    }

    fn list_entry(&self, path: &Path, listing: &mut Listing) {
        let read = read_limited(path, MAX_ENTRY_BYTES)
            .map_err(|error| ImageError::io("read", path, error))
            .and_then(|bytes| self.load(path, &bytes));
        match read {
            Ok(image) => listing.images.push(image),
            // Removed in this moment.
            Err(_) if !path.exists() => {}
            Err(error) => listing.warnings.push(set_aside(path, &error)),
        }
    }

    fn remove_stale(&self) -> Result<(), ImageError> {
        let scratch = self.scratch();
        let unreadable = |error| ImageError::io("read", &scratch, error);
        for found in fs::read_dir(&scratch).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            let name = found.file_name();
            let name = name.to_string_lossy();
            let older = |limit| {
                let modified = found.metadata().and_then(|it| it.modified());
                modified.is_ok_and(|it| it.elapsed().unwrap_or_default() > limit)
            };
            if name.ends_with(SCRATCH_SUFFIX) && older(STALE_SCRATCH) {
                files::remove(&found.path())?;
            } else if let Ok(digest) = format!("sha256:{name}").parse()
                && older(STALE_PARTIAL)
            {
                self.discard_partial(&digest, Leftover::Any)?;
            }
        }
        Ok(())
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    fn scratch(&self) -> PathBuf {
        self.root.join("blobs").join(".partial")
    }

    fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    fn entry_path(&self, reference: &Reference) -> PathBuf {
        self.manifests().join(names::entry_path(reference))
    }
}

/// An image, of its manifest and of its configuration as it came.
pub(super) fn assemble(
    reference: Reference,
    manifest_digest: Digest,
    manifest: &Manifest,
    config: &[u8],
) -> Result<Image, ImageError> {
    let digest = &manifest.config.digest;
    let config = parse_config(digest, config)?;
    let layers = layers(manifest, &config, &reference)?;
    let mut sizes: Vec<_> = layers.iter().map(|it| (&it.digest, it.size)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(Image {
        size: sizes.iter().map(|(_, size)| size).sum(),
        reference,
        manifest_digest,
        config_digest: digest.clone(),
        platform: config.platform(),
        created: config.created(),
        config: config.config,
        layers,
    })
}

/// Reads a configuration document.
pub(crate) fn parse_config(digest: &Digest, bytes: &[u8]) -> Result<ConfigFile, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed {
        what: format!("configuration {}", short(digest)),
        reason: escape(&error.to_string()),
    })
}

/// Pairs the manifest's layers with the configuration's diff-ids.
pub(crate) fn layers(
    manifest: &Manifest,
    config: &ConfigFile,
    reference: &Reference,
) -> Result<Vec<Layer>, ImageError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::Malformed {
            what: format!("image '{reference}'"),
            reason: format!(
                "its manifest has {} layers, its configuration {}",
                manifest.layers.len(),
                diff_ids.len()
            ),
        });
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    Ok(pairs
        .map(|((descriptor, compression), diff_id)| Layer {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            compression: *compression,
            diff_id: diff_id.clone(),
        })
        .collect())
}

fn damaged(kind: &str, digest: &Digest) -> ImageError {
    ImageError::Damaged {
        what: format!("{kind} {}", short(digest)),
    }
}

/// Moves an entry that no pull could mend out of the way; returns the warning.
fn set_aside(path: &Path, error: &ImageError) -> String {
    let hopeless = matches!(error, ImageError::Malformed { .. });
    let aside = path.with_extension("json.corrupt");
    let error = one_line(error);
    match hopeless && fs::rename(path, &aside).is_ok() {
        true => format!("{error}; set aside as '{}'", aside.display()),
        false => format!("ignoring '{}': {error}", path.display()),
    }
}

fn read_limited(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(std::io::Error::other("it is too large")),
        false => Ok(bytes),
    }
}
