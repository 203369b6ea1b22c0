//! An image of one layer, from a root file system in a tar archive.

use std::io::{self, BufReader, Read};
use std::time::SystemTime;

use isolazi_protocol::{Compression, Digest};
use serde_json::json;

use super::super::manifest::OCI_MANIFEST;
use super::super::platform::Platform;
use super::super::reference::Reference;
use super::super::store::{Image, ImageStore, digest_of};
use super::reader::Entries;
use super::stage::{Hashed, Staged};
use super::{ArchiveError, decompress};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What the image is to be, besides its files.
#[derive(Debug)]
pub struct ImportOptions {
    /// Its name; without one it is known by its id only.
    pub reference: Option<Reference>,
    /// What its history says.
    pub message: String,
    /// What it is made for.
    pub platform: Platform,
}

/// Makes an image of the archive, which may be compressed. Blocks.
pub fn import(
    store: &ImageStore,
    mut from: impl Read,
    options: &ImportOptions,
) -> Result<Image, ArchiveError> {
    let _hold = store.hold()?;
    let mut layer = Staged::read(store, &mut from, None)?;
    let diff_id = diff_id(&layer)?;
    let ending = match layer.compression()? {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    let config = config(&diff_id, options);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": digest_of(&config),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": format!("{OCI_LAYER}{ending}"),
            "digest": layer.digest,
            "size": layer.size,
        }],
    });
    layer.commit()?;
    store.add_blob(&config)?;
    let digest = store.add_blob(manifest.to_string().as_bytes())?;
    Ok(match &options.reference {
        Some(reference) => store.tag_named(reference, &digest)?,
        None => store.keep_unnamed(&digest)?,
    })
}

/// The digest of the layer once it is decompressed; an error where that is not
/// a whole tar archive.
fn diff_id(layer: &Staged) -> Result<Digest, ArchiveError> {
    let file = BufReader::with_capacity(256 << 10, layer.open()?);
    let plain = decompress::decompressed(file).map_err(ArchiveError::reading)?;
    let mut hashed = Hashed::new(plain);
    let mut entries = Entries::new(&mut hashed);
    let mut count = 0u64;
    while entries.next().map_err(ArchiveError::reading)?.is_some() {
        count += 1;
    }
    if count == 0 {
        return Err(ArchiveError::NotTar("it is empty".to_owned()));
    }
    // What follows the end belongs to the layer as well.
    io::copy(&mut hashed, &mut io::sink()).map_err(ArchiveError::reading)?;
    Ok(hashed.digest())
}

fn config(diff_id: &Digest, options: &ImportOptions) -> Vec<u8> {
    let created = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let Platform {
        os,
        architecture,
        variant,
    } = &options.platform;
    let mut document = json!({
        "created": created,
        "architecture": architecture,
        "os": os,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": created, "comment": options.message }],
    });
    if let Some(variant) = variant {
        document["variant"] = json!(variant);
    }
    document.to_string().into_bytes()
}
