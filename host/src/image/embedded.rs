//! The image that isolazi brings along, so that it can be tried without any
//! registry: `hello`, a layer of one static program and the names of its users.
//!
//! ```text
//!  hello/main.rs ─ build.rs ─► program ─ here ─► layer, config, manifest ─► the store
//! ```
//!
//! Made anew from the program in memory, always with the same digests, it is
//! written to the store only when it is not there yet. So a new version of
//! isolazi brings its own, and the store lists and keeps it like any other.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use isolazi_protocol::Digest;
use serde_json::json;

use super::error::ImageError;
use super::platform::Platform;
use super::reference::Reference;
use super::store::{Image, ImageStore, digest_of};

/// Its program, compressed.
#[cfg(embedded_hello)]
const HELLO: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/hello.gz")));
#[cfg(not(embedded_hello))]
const HELLO: Option<&[u8]> = None;

/// What the image answers to. With a registry in front, it is the registry's.
const NAMES: [&str; 2] = ["hello", "hello:latest"];

const PASSWD: &[u8] = b"root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why an embedded image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// This program was compiled where Linux programs could not be.
    #[error(
        "this build of isolazi has no image '{name}': build it again after `rustup target add {target}`, or use an image of a registry"
    )]
    NotBuiltIn {
        /// What was asked for.
        name: String,
        /// The Rust target that the build lacked.
        target: String,
    },
    /// Archives and documents in memory cannot fail; still, no panic.
    #[error("the image '{name}' cannot be made")]
    Made {
        /// What was asked for.
        name: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The store's files.
    #[error(transparent)]
    Store(#[from] ImageError),
}

/// The image that `name` stands for, put into the store where it is not there;
/// `None` where `name` is not that of an embedded image.
pub fn embedded(store: &ImageStore, name: &str) -> Result<Option<Image>, EmbeddedError> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    let program = HELLO.ok_or_else(|| EmbeddedError::NotBuiltIn {
        name: name.to_owned(),
        target: format!("{}-unknown-linux-musl", std::env::consts::ARCH),
    })?;
    let made = decompressed(program).and_then(|program| Parts::new(&program));
    let parts = made.map_err(|source| EmbeddedError::Made {
        name: name.to_owned(),
        source,
    })?;
    Ok(Some(parts.put(store)?))
}

fn decompressed(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(program).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The blobs of the image.
struct Parts {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Parts {
    fn new(program: &[u8]) -> std::io::Result<Self> {
        let layer = layer(program)?;
        let config = config(&digest_of(&layer))?;
        let manifest = manifest(&config, &layer)?;
        Ok(Self {
            layer,
            config,
            manifest,
        })
    }

    fn put(&self, store: &ImageStore) -> Result<Image, ImageError> {
        let reference = Reference::parse(NAMES[1]).map_err(|error| ImageError::Malformed {
            what: format!("name '{}'", NAMES[1]),
            reason: error.to_string(),
        })?;
        if let Ok(Some(image)) = store.resolve(&reference)
            && image.manifest_digest == digest_of(&self.manifest)
            && store.has_blob(&digest_of(&self.layer), self.layer.len() as u64)
        {
            return Ok(image);
        }
        let _hold = store.hold()?;
        store.add_blob(&self.layer)?;
        store.add_blob(&self.config)?;
        let manifest = store.add_blob(&self.manifest)?;
        store.tag(&reference, &manifest)
    }
}

fn layer(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)
    };
    add("etc/", tar::EntryType::Directory, 0o755, b"")?;
    add("etc/group", tar::EntryType::Regular, 0o644, GROUP)?;
    add("etc/passwd", tar::EntryType::Regular, 0o644, PASSWD)?;
    add("hello", tar::EntryType::Regular, 0o755, program)?;
    archive.into_inner()
}

fn config(diff_id: &Digest) -> std::io::Result<Vec<u8>> {
    let Platform {
        os, architecture, ..
    } = Platform::host();
    let document = json!({
        "architecture": architecture,
        "os": os,
        "config": { "Cmd": ["/hello"], "Env": ["PATH=/"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    Ok(serde_json::to_vec(&document)?)
}

fn manifest(config: &[u8], layer: &[u8]) -> std::io::Result<Vec<u8>> {
    let descriptor = |media_type: &str, content: &[u8]| {
        json!({
            "mediaType": media_type,
            "digest": digest_of(content),
            "size": content.len(),
        })
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": [descriptor(LAYER_TYPE, layer)],
    });
    Ok(serde_json::to_vec(&document)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ImageStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn only_the_bare_name_means_the_embedded_image() {
        let (_folder, store) = store();
        for name in [
            "docker.io/library/hello",
            "library/hello",
            "hello:1",
            "Hello",
            "hello-world",
            "localhost:5000/hello",
        ] {
            assert!(embedded(&store, name).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn the_image_is_complete_and_always_the_same() {
        let (_folder, store) = store();
        let program = b"a program";
        let first = Parts::new(program).unwrap().put(&store).unwrap();
        assert_eq!(first.config.cmd, ["/hello"]);
        assert_eq!(first.platform, Some(Platform::host()));
        let [layer] = first.layers.as_slice() else {
            panic!("{:?}", first.layers);
        };
        assert_eq!(layer.digest, layer.diff_id);
        let bytes = std::fs::read(store.blob_path(&layer.digest)).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let entries: Vec<_> = entries
            .map(|it| {
                (
                    it.path().unwrap().display().to_string(),
                    it.header().mode().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("etc/", 0o755),
            ("etc/group", 0o644),
            ("etc/passwd", 0o644),
            ("hello", 0o755),
        ];
        assert_eq!(
            entries,
            expected.map(|(path, mode)| (path.to_owned(), mode))
        );

        let again = Parts::new(program).unwrap().put(&store).unwrap();
        assert_eq!(again.manifest_digest, first.manifest_digest);
        assert_eq!(store.list().unwrap().images.len(), 1);
    }

    #[test]
    fn a_newer_program_replaces_the_older_and_lost_blobs_come_back() {
        let (_folder, store) = store();
        let old = Parts::new(b"old").unwrap().put(&store).unwrap();
        let new = Parts::new(b"new").unwrap();
        let image = new.put(&store).unwrap();
        assert_ne!(old.manifest_digest, image.manifest_digest);
        std::fs::remove_file(store.blob_path(&image.layers[0].digest)).unwrap();
        let image = new.put(&store).unwrap();
        assert!(store.has_blob(&image.layers[0].digest, image.layers[0].size));
        assert_eq!(store.list().unwrap().images.len(), 1);
    }

    #[test]
    fn what_is_not_built_in_says_how_to_get_it() {
        let (_folder, store) = store();
        match embedded(&store, "hello") {
            Ok(image) => assert!(HELLO.is_some() && image.is_some()),
            Err(error) => {
                assert!(HELLO.is_none());
                assert!(error.to_string().contains("rustup target add"));
            }
        }
    }
}
