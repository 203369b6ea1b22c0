//! Images into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use isolazi_protocol::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::super::error::ImageError;
use super::super::manifest::OCI_INDEX;
use super::super::reference::Reference;
use super::super::store::{Found, Image, ImageStore};
use super::ArchiveError;
use super::stage::Hashed;

/// The annotations that name an image in an index: containerd's and Docker's,
/// and the image-spec's.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
pub(super) const TAG: &str = "org.opencontainers.image.ref.name";

/// An image to be saved, and the names it is to have in the archive.
#[derive(Debug, Clone)]
pub struct Selection {
    image: Image,
    names: Vec<Reference>,
}

impl Selection {
    /// What a user named, each image once. One that was named by its id gets no
    /// name, as with Docker.
    pub fn of(found: Vec<Found>) -> Vec<Self> {
        let mut selections: Vec<Self> = Vec::new();
        for found in found {
            let image = found.image().clone();
            let name = Some(image.reference.clone())
                .filter(|name| !found.by_id && name.digest().is_none());
            let known = selections
                .iter_mut()
                .find(|it| it.image.manifest_digest == image.manifest_digest);
            match known {
                Some(known) => known.names.extend(name),
                None => selections.push(Self {
                    image,
                    names: name.into_iter().collect(),
                }),
            }
        }
        for selection in &mut selections {
            selection.names.sort();
            selection.names.dedup();
        }
        selections
    }
}

/// Writes images to an archive that Docker's and the OCI's tools read. Every
/// blob is verified on the way.
pub fn save(
    store: &ImageStore,
    selections: &[Selection],
    to: impl Write,
) -> Result<(), ArchiveError> {
    let mut archive = Builder::new(to);
    for folder in ["blobs/", "blobs/sha256/"] {
        append(&mut archive, folder, EntryType::Directory, 0, io::empty())?;
    }
    for (digest, size) in blobs(store, selections)? {
        append_blob(&mut archive, store, &digest, size)?;
    }
    let documents = [
        ("index.json", index(store, selections)?),
        ("manifest.json", manifest(selections)),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
    ];
    for (name, document) in documents {
        let text = document.to_string();
        let size = text.len() as u64;
        append(
            &mut archive,
            name,
            EntryType::Regular,
            size,
            text.as_bytes(),
        )?;
    }
    let mut to = archive.into_inner().map_err(ArchiveError::writing)?;
    to.flush().map_err(ArchiveError::writing)
}

/// All blobs by their digest, with their sizes.
fn blobs(
    store: &ImageStore,
    selections: &[Selection],
) -> Result<BTreeMap<Digest, u64>, ArchiveError> {
    let mut blobs = BTreeMap::new();
    for Selection { image, .. } in selections {
        for digest in [&image.manifest_digest, &image.config_digest] {
            blobs.insert(digest.clone(), store.blob_size(digest)?);
        }
        for layer in &image.layers {
            blobs.insert(layer.digest.clone(), layer.size);
        }
    }
    Ok(blobs)
}

fn append_blob<W: Write>(
    archive: &mut Builder<W>,
    store: &ImageStore,
    digest: &Digest,
    size: u64,
) -> Result<(), ArchiveError> {
    let path = store.blob_path(digest);
    let damaged = || ImageError::Damaged {
        what: format!("blob {}", super::super::text::short(digest)),
    };
    if !store.has_blob(digest, size) {
        return Err(damaged().into());
    }
    let file = File::open(&path).map_err(|error| ImageError::io("open", &path, error))?;
    let mut hashed = Hashed::new(file.take(size));
    let name = format!("blobs/sha256/{}", digest.hex());
    append(archive, &name, EntryType::Regular, size, &mut hashed)?;
    match hashed.digest() == *digest {
        true => Ok(()),
        false => {
            // The next pull or load mends the image.
            store.remove_blob(digest)?;
            Err(damaged().into())
        }
    }
}

/// Times and owners would make the same images different archives.
fn append<W: Write>(
    archive: &mut Builder<W>,
    name: &str,
    kind: EntryType,
    size: u64,
    content: impl Read,
) -> Result<(), ArchiveError> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mtime(0);
    header.set_mode(match kind {
        EntryType::Directory => 0o755,
        _ => 0o644,
    });
    archive
        .append_data(&mut header, name, content)
        .map_err(ArchiveError::writing)
}

fn index(store: &ImageStore, selections: &[Selection]) -> Result<Value, ArchiveError> {
    let mut manifests = Vec::new();
    for Selection { image, names } in selections {
        let mut descriptor = serde_json::to_value(store.descriptor(image)?)
            .map_err(|error| ArchiveError::writing(error.into()))?;
        if names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in names {
            descriptor["annotations"] = json!({
                FULL_NAME: name.canonical(),
                TAG: name.tag(),
            });
            manifests.push(descriptor.clone());
        }
    }
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": manifests,
    }))
}

/// Docker's own list.
fn manifest(selections: &[Selection]) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let entry = |Selection { image, names }: &Selection| {
        let tags: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        json!({
            "Config": path(&image.config_digest),
            "RepoTags": tags,
            "Layers": image.layers.iter().map(|it| path(&it.digest)).collect::<Vec<_>>(),
        })
    };
    selections.iter().map(entry).collect()
}
