//! Images and stores to test with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isolazi::image::{
    Image, ImageError, ImageStore, LayerSink, NetworkOptions, NoProgress, NullSink, PullOptions,
    Reference, pull,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn digest(bytes: &[u8]) -> String {
    isolazi_protocol::Digest::from_bytes(&Sha256::digest(bytes).into()).to_string()
}

/// An image as a registry keeps it.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) manifest: Bytes,
    pub(crate) config: Bytes,
    /// Compressed, lowest first.
    pub(crate) layers: Vec<Bytes>,
    /// Everything by its digest, the manifest too.
    pub(crate) blobs: HashMap<String, Bytes>,
}

impl TestImage {
    /// An image of layers that each hold one file of so many random bytes.
    pub(crate) fn with_layers(sizes: &[usize]) -> Self {
        let tars: Vec<Vec<u8>> = sizes.iter().copied().map(tar).collect();
        let layers = tars.iter().map(|tar| gzip(tar)).collect();
        Self::new(
            layers,
            &tars.iter().map(|tar| digest(tar)).collect::<Vec<_>>(),
        )
    }

    pub(crate) fn new(layers: Vec<Bytes>, diff_ids: &[String]) -> Self {
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/w"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let descriptors: Vec<_> = layers.iter().map(|it| descriptor(GZIP, it)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config),
            "layers": descriptors,
        });
        let manifest = Bytes::from(manifest.to_string());
        let blobs = layers.iter().chain([&config, &manifest]);
        Self {
            blobs: blobs.map(|it| (digest(it), it.clone())).collect(),
            manifest,
            config,
            layers,
        }
    }

    /// The manifest with something changed.
    pub(crate) fn altered(&self, change: impl FnOnce(&mut Value)) -> Bytes {
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        change(&mut manifest);
        manifest.to_string().into()
    }

    /// Writes an OCI image layout with `index` as its `index.json`.
    pub(crate) fn write_layout(&self, folder: &Path, index: &Value) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in &self.blobs {
            std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        }
        let version = r#"{"imageLayoutVersion": "1.0.0"}"#;
        std::fs::write(folder.join("oci-layout"), version).unwrap();
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// Bytes that do not compress, the same on every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ length as u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

pub(crate) fn tar(length: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(length as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, format!("file-{length}"), &noise(length)[..])
        .unwrap();
    archive.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

/// A store in a temporary folder.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) store: ImageStore,
    pub(crate) options: PullOptions,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: ImageStore::open(folder.path().join("images")).unwrap(),
            folder,
            options: PullOptions {
                platform: "linux/amd64".parse().unwrap(),
                network: NetworkOptions {
                    connect_timeout: Duration::from_secs(5),
                    stall_timeout: Duration::from_millis(500),
                    backoff: Duration::from_millis(5),
                    ..NetworkOptions::default()
                },
            },
        }
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    pub(crate) async fn pull(&self, reference: &Reference) -> Result<Image, ImageError> {
        self.pull_into(reference, Arc::new(NullSink)).await
    }

    pub(crate) async fn pull_into(
        &self,
        reference: &Reference,
        sink: Arc<dyn LayerSink>,
    ) -> Result<Image, ImageError> {
        let progress = Arc::new(NoProgress);
        pull(&self.store, reference, &self.options, sink, progress).await
    }

    pub(crate) fn listed(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        assert_eq!(listing.warnings, Vec::<String>::new());
        listing
            .images
            .iter()
            .map(|image| image.reference.to_string())
            .collect()
    }

    /// What is under way or was left behind, but for locks.
    pub(crate) fn partials(&self) -> Vec<String> {
        let mut names = files(&self.images().join("blobs/.partial"));
        names.retain(|name| !name.ends_with(".lock"));
        names
    }

    /// Nothing is listed, and nothing half-written is left. Whole blobs may be
    /// there, for the next pull to use.
    pub(crate) fn assert_unspoilt(&self) {
        assert_eq!(self.listed(), Vec::<String>::new());
        let blobs = self.images().join("blobs/sha256");
        for name in files(&blobs) {
            let bytes = std::fs::read(blobs.join(&name)).unwrap();
            assert_eq!(digest(&bytes), format!("sha256:{name}"));
        }
        assert_eq!(self.partials(), Vec::<String>::new());
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An error as the command line prints it.
pub(crate) fn line(error: ImageError) -> String {
    let line = format!("{:#}", anyhow::Error::from(error));
    assert!(!line.contains('\n'), "{line}");
    line
}
