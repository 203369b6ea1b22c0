//! An image as `inspect` and `history` show it: its documents under Docker's
//! field names (Engine API, `ImageInspect` and `ImageHistory`).

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{MAX_CONFIG_BYTES, rfc3339};
use super::error::ImageError;
use super::store::{Image, ImageStore};
use super::text::{escape, short};

/// A step in the making of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, where it says so.
    pub created: Option<SystemTime>,
    /// The command.
    pub created_by: String,
    /// What its maker remarked.
    pub comment: String,
    /// Bytes of its layer as stored (compressed); 0 where it changed no file.
    pub size: u64,
}

/// The parts of a configuration that only people care for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    history: Option<Vec<Entry>>,
    author: Option<String>,
    comment: Option<String>,
    docker_version: Option<String>,
    created: Option<String>,
    config: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: bool,
}

impl ImageStore {
    /// How an image was made, latest step first.
    pub fn history(&self, image: &Image) -> Result<Vec<Step>, ImageError> {
        history(image, &self.configuration(image)?)
    }

    /// The JSON object that `isolazi inspect` prints about an image; `all` are
    /// those with its other names among them.
    pub fn describe(&self, image: &Image, all: &[Image]) -> Result<Value, ImageError> {
        describe(image, all, &self.configuration(image)?)
    }

    fn configuration(&self, image: &Image) -> Result<Vec<u8>, ImageError> {
        self.read_blob("configuration", &image.config_digest, MAX_CONFIG_BYTES)
    }
}

/// See [`ImageStore::history`]; `config` is the image's configuration as it came.
pub(super) fn history(image: &Image, config: &[u8]) -> Result<Vec<Step>, ImageError> {
    let document = document(image, config)?;
    Ok(steps(image, document.history.unwrap_or_default()))
}

/// See [`ImageStore::describe`]; `config` as above.
pub(super) fn describe(image: &Image, all: &[Image], config: &[u8]) -> Result<Value, ImageError> {
    let document = document(image, config)?;
    let same = all
        .iter()
        .filter(|it| it.config_digest == image.config_digest);
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for it in same.filter(|it| !it.reference.is_unnamed()) {
        if it.reference.digest().is_none() {
            tags.push(it.reference.to_string());
        }
        digests.push(it.reference.pinned(&it.manifest_digest).to_string());
    }
    digests.sort();
    digests.dedup();
    let platform = image.platform.clone().unwrap_or_default();
    let text = |text: Option<String>| text.unwrap_or_default();
    Ok(json!({
        "Id": image.config_digest,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": text(document.comment),
        "Created": text(document.created),
        "DockerVersion": text(document.docker_version),
        "Author": text(document.author),
        "Config": document.config.unwrap_or_else(|| json!({})),
        "Architecture": platform.architecture,
        "Variant": platform.variant.unwrap_or_default(),
        "Os": platform.os,
        "Size": image.size,
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(|it| &it.diff_id).collect::<Vec<_>>(),
        },
        "Descriptor": {
            "digest": image.manifest_digest,
        },
    }))
}

fn document(image: &Image, config: &[u8]) -> Result<Document, ImageError> {
    serde_json::from_slice(config).map_err(|error| ImageError::Malformed {
        what: format!("configuration {}", short(&image.config_digest)),
        reason: escape(&error.to_string()),
    })
}

/// Pairs the steps that changed files with the layers; layers that no step
/// claims get one each.
fn steps(image: &Image, history: Vec<Entry>) -> Vec<Step> {
    let mut layers = image.layers.iter();
    let mut steps: Vec<Step> = history
        .into_iter()
        .map(|entry| Step {
            created: entry.created.as_deref().and_then(rfc3339),
            created_by: entry.created_by.unwrap_or_default(),
            comment: entry.comment.unwrap_or_default(),
            size: match entry.empty_layer {
                true => 0,
                false => layers.next().map_or(0, |layer| layer.size),
            },
        })
        .collect();
    steps.extend(layers.map(|layer| Step {
        created: image.created,
        created_by: String::new(),
        comment: String::new(),
        size: layer.size,
    }));
    steps.reverse();
    steps
}
