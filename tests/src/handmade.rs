//! Images that no builder would make, put together byte by byte.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a gzip layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// `sha256:…` of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// An image as a registry serves it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// Configuration and layers by digest.
    pub blobs: Vec<(String, Vec<u8>)>,
}

impl Image {
    /// An honest image of `layers`, each an uncompressed tar.
    pub fn new(layers: &[Vec<u8>]) -> Result<Self> {
        let compressed = layers.iter().map(|l| gzip(l)).collect::<Result<Vec<_>>>()?;
        let diff_ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
        Ok(Self::of(&compressed, &diff_ids))
    }

    /// An image of compressed `layers` that claims their content to have `diff_ids`.
    pub fn of(layers: &[Vec<u8>], diff_ids: &[String]) -> Self {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self::with_config(config.to_string().into_bytes(), layers)
    }

    /// An image with this configuration, whatever it says.
    pub fn with_config(config: Vec<u8>, layers: &[Vec<u8>]) -> Self {
        let descriptors: Vec<_> = layers.iter().map(|l| descriptor(LAYER, l)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": descriptors,
        });
        let blobs = layers.iter().cloned().chain([config]);
        Self {
            manifest: manifest.to_string().into_bytes(),
            media_type: MANIFEST.to_owned(),
            blobs: blobs.map(|blob| (digest(&blob), blob)).collect(),
        }
    }

    /// Writes it as an OCI image layout (image-spec, `image-layout.md`), to be
    /// copied elsewhere.
    pub fn write_layout(&self, folder: &Path) -> Result<()> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let manifest = (self.digest(), self.manifest.clone());
        for (digest, blob) in self.blobs.iter().chain([&manifest]) {
            fs::write(blobs.join(digest.trim_start_matches("sha256:")), blob)?;
        }
        let index = json!({
            "schemaVersion": 2,
            "manifests": [descriptor(&self.media_type, &self.manifest)],
        });
        fs::write(folder.join("index.json"), index.to_string())?;
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        Ok(fs::write(folder.join("oci-layout"), version.to_string())?)
    }

    /// The manifest's digest.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// The digest of layer `n`.
    pub fn layer(&self, n: usize) -> &str {
        &self.blobs[n].0
    }

    /// The same with another manifest.
    #[must_use]
    pub fn edited(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        if let Ok(mut manifest) = serde_json::from_slice(&self.manifest) {
            edit(&mut manifest);
            self.manifest = manifest.to_string().into_bytes();
        }
        self
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

/// This machine's architecture in OCI's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Compressed as layers are.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// A layer in the making. Names are written as given, however wrong.
pub struct Layer(Builder<Vec<u8>>);

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({} bytes)", self.0.get_ref().len())
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Layer {
    /// Adds a regular file.
    pub fn file(self, name: &str, content: &str) -> Result<Self> {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    /// Adds a program.
    pub fn program(self, name: &str, content: &[u8]) -> Result<Self> {
        self.with_mode(EntryType::Regular, name, "", content, 0o755)
    }

    /// Adds a folder.
    pub fn folder(self, name: &str) -> Result<Self> {
        self.entry(EntryType::Directory, name, "", b"")
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Result<Self> {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    /// Adds a hard link.
    pub fn link(self, name: &str, target: &str) -> Result<Self> {
        self.entry(EntryType::Link, name, target, b"")
    }

    /// Adds an entry of any kind.
    pub fn entry(self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Result<Self> {
        let mode = if kind.is_dir() { 0o755 } else { 0o644 };
        self.with_mode(kind, name, target, content, mode)
    }

    fn with_mode(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<Self> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        if kind.is_block_special() || kind.is_character_special() {
            header.set_device_major(8)?;
            header.set_device_minor(0)?;
        }
        // The crate's own setters refuse exactly the names that are wanted here.
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content)?;
        Ok(self)
    }

    /// The archive as it is when its writer forgets to end it: without the
    /// padding of the last file and without the blocks that say that it is over.
    pub fn unfinished(self, content: &str) -> Result<Vec<u8>> {
        let mut tar = self.file("last", content)?.0.into_inner()?;
        let last = tar
            .windows(content.len())
            .rposition(|part| part == content.as_bytes());
        tar.truncate(last.unwrap_or_default() + content.len());
        Ok(tar)
    }

    /// The archive.
    pub fn tar(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}
