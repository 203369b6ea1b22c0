//! A new image from an image and a layer of changes.

use std::collections::HashMap;
use std::time::SystemTime;

use isolazi_protocol::{Compression, ContainerSpec, Digest};
use serde_json::{Map, Value, json};

use super::config::MAX_CONFIG_BYTES;
use super::error::ImageError;
use super::health;
use super::instruction::{self, InstructionError};
use super::manifest::OCI_MANIFEST;
use super::reference::Reference;
use super::store::{Image, ImageStore, Layer};
use super::text::short;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// Why no image could be made.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The store has lost something of the image, or cannot keep the new one.
    #[error(transparent)]
    Store(#[from] ImageError),
    /// A change makes no sense.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// A layer of the image is not in the store any more.
    #[error("layer {layer} of image {image} is no longer stored here; pull the image again")]
    NoLayer {
        /// Start of its diff-id.
        layer: String,
        /// As the user named it.
        image: String,
    },
    /// A configuration that is not an object.
    #[error("the configuration of image {0} makes no sense; pull the image again")]
    BadConfig(String),
}

/// What is to be known of the new image.
#[derive(Debug)]
pub struct Derivation<'a> {
    /// The container that was changed.
    pub container: &'a ContainerSpec,
    /// Dockerfile instructions, in order.
    pub changes: &'a [String],
    /// Who makes it.
    pub author: &'a str,
    /// What it is about.
    pub message: &'a str,
    /// Digest and length of the new layer, an uncompressed tar in the store.
    pub layer: (Digest, u64),
}

/// Makes sure, before anything is done, that the image can become another.
pub fn check(store: &ImageStore, what: &Derivation<'_>) -> Result<(), DeriveError> {
    base_layers(store, what.container)?;
    config(store, what).map(drop)
}

/// Stores the new image under `name`, or, without one, under the old
/// repository and its own digest.
pub fn derive(
    store: &ImageStore,
    what: &Derivation<'_>,
    name: Option<&Reference>,
) -> Result<Image, DeriveError> {
    let layers = base_layers(store, what.container)?;
    let config = config(store, what)?.to_string();
    let config = (store.add_blob(config.as_bytes())?, config.len() as u64);
    let manifest = manifest(&layers, &config, &what.layer).to_string();
    let digest = store.add_blob(manifest.as_bytes())?;
    let unnamed;
    let name = match name {
        Some(name) => name,
        None => {
            unnamed = nameless(&what.container.image.reference, &digest)?;
            &unnamed
        }
    };
    Ok(store.tag(name, &digest)?)
}

/// `REGISTRY/REPOSITORY@DIGEST` of the image that the container came from.
fn nameless(image: &str, digest: &Digest) -> Result<Reference, DeriveError> {
    let bad = || DeriveError::BadConfig(image.to_owned());
    let image: Reference = image.parse().map_err(|_| bad())?;
    let text = format!("{}/{}@{digest}", image.registry(), image.repository());
    text.parse().map_err(|_| bad())
}

/// The blobs of the container's layers: of its own image, or of any other that
/// has the same.
fn base_layers(store: &ImageStore, container: &ContainerSpec) -> Result<Vec<Layer>, DeriveError> {
    let images = store.list()?.images;
    let known: HashMap<&Digest, &Layer> = images
        .iter()
        .flat_map(|image| &image.layers)
        .filter(|layer| store.has_blob(&layer.digest, layer.size))
        .map(|layer| (&layer.diff_id, layer))
        .collect();
    let layers = container.layers.iter().map(|diff_id| {
        let layer = known.get(diff_id).map(|layer| (*layer).clone());
        layer.ok_or_else(|| DeriveError::NoLayer {
            layer: short(diff_id).to_owned(),
            image: container.image.reference.clone(),
        })
    });
    layers.collect()
}

/// The old configuration with the container's settings, the changes, and one
/// more layer.
fn config(store: &ImageStore, what: &Derivation<'_>) -> Result<Value, DeriveError> {
    let container = what.container;
    let image = &container.image;
    let bytes = store.read_blob("configuration", &image.id, MAX_CONFIG_BYTES)?;
    let document = serde_json::from_slice::<Map<String, Value>>(&bytes);
    let mut document = document.map_err(|_| DeriveError::BadConfig(image.reference.clone()))?;
    let mut config = match document.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    inherit(&mut config, container);
    instruction::apply(&mut config, what.changes)?;
    let created = humantime::format_rfc3339(SystemTime::now()).to_string();
    for about_the_old in ["container", "container_config", "id", "parent"] {
        document.remove(about_the_old);
    }
    document.insert("config".to_owned(), config.into());
    document.insert("created".to_owned(), created.clone().into());
    if !what.author.is_empty() {
        document.insert("author".to_owned(), what.author.into());
    }
    let mut diff_ids: Vec<&Digest> = container.layers.iter().collect();
    diff_ids.push(&what.layer.0);
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    document.insert("rootfs".to_owned(), rootfs);
    let history = document.entry("history").or_insert(Value::Null);
    if !history.is_array() {
        *history = json!([]);
    }
    if let Value::Array(history) = history {
        history.push(step(what, &created));
    }
    Ok(document.into())
}

/// One line of the image's history.
fn step(what: &Derivation<'_>, created: &str) -> Value {
    let command = what.container.process.args.join(" ");
    let mut step = json!({ "created": created, "created_by": command });
    for (key, value) in [("author", what.author), ("comment", what.message)] {
        if !value.is_empty() {
            step[key] = value.into();
        }
    }
    step
}

/// What was given when the container was made becomes the image's default.
fn inherit(config: &mut Map<String, Value>, container: &ContainerSpec) {
    let process = &container.process;
    let entrypoint = config.get("Entrypoint").and_then(Value::as_array);
    let entrypoint: Vec<&str> = entrypoint
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let is_kept = process.args.len() >= entrypoint.len()
        && process.args.iter().zip(&entrypoint).all(|(a, b)| a == b);
    let own = if is_kept { entrypoint.len() } else { 0 };
    let command = &process.args[own..];
    if !is_kept {
        config.remove("Entrypoint");
    }
    config.insert("Cmd".to_owned(), command.into());
    config.insert("Env".to_owned(), process.env.clone().into());
    config.insert("User".to_owned(), process.user.clone().into());
    config.insert("WorkingDir".to_owned(), process.cwd.clone().into());
    if let Some(check) = &container.options.health {
        config.insert("Healthcheck".to_owned(), health::described(check));
    }
}

fn manifest(layers: &[Layer], config: &(Digest, u64), layer: &(Digest, u64)) -> Value {
    let descriptor = |media_type: &str, digest: &Digest, size: u64| json!({ "mediaType": media_type, "digest": digest, "size": size });
    let old = layers.iter().map(|layer| {
        let media_type = media_type(layer.compression);
        descriptor(media_type, &layer.digest, layer.size)
    });
    let new = descriptor(media_type(Compression::None), &layer.0, layer.1);
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG_TYPE, &config.0, config.1),
        "layers": old.chain([new]).collect::<Vec<_>>(),
    })
}

fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::{ImageIdentity, NetworkMode, ProcessSpec, Resources, SeccompProfile};

    /// A store with an image of one layer, and a container of it.
    fn image() -> (tempfile::TempDir, ImageStore, ContainerSpec) {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let layer = store.add_blob(b"a layer").unwrap();
        let config = json!({
            "architecture": "amd64", "os": "linux", "container": "x", "variant": "v2",
            "config": {"Entrypoint": ["/e"], "Cmd": ["old"], "Env": ["A=1"], "OnBuild": ["X"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": "before"}],
        })
        .to_string();
        let id = store.add_blob(config.as_bytes()).unwrap();
        let base = [Layer {
            digest: layer.clone(),
            size: 7,
            compression: Compression::None,
            diff_id: layer.clone(),
        }];
        let config = (id.clone(), config.len() as u64);
        let manifest = manifest(&base[..0], &config, &(layer.clone(), 7)).to_string();
        let manifest = store.add_blob(manifest.as_bytes()).unwrap();
        store.tag(&"base:1".parse().unwrap(), &manifest).unwrap();
        let container = ContainerSpec {
            name: None,
            image: ImageIdentity {
                reference: "base:1".to_owned(),
                id,
            },
            layers: vec![layer],
            process: ProcessSpec {
                args: ["/e", "new", "word"].map(str::to_owned).into(),
                env: vec!["A=2".to_owned()],
                cwd: "/w".to_owned(),
                user: "alice".to_owned(),
                terminal: None,
                open_stdin: false,
            },
            hostname: None,
            mounts: vec![],
            stop_signal: None,
            auto_remove: false,
            network: NetworkMode::None,
            seccomp: SeccompProfile::Default,
            resources: Resources::default(),
            resolv_conf: String::new(),
            restart: isolazi_protocol::RestartPolicy::No,
            options: isolazi_protocol::ContainerOptions {
                health: Some(isolazi_protocol::HealthCheck {
                    test: isolazi_protocol::HealthTest::Command(vec!["/check".to_owned()]),
                    interval: 5_000_000,
                    timeout: 0,
                    start_period: 0,
                    start_interval: 0,
                    retries: 2,
                }),
                ..Default::default()
            },
        };
        (folder, store, container)
    }

    fn derivation<'a>(
        store: &ImageStore,
        container: &'a ContainerSpec,
        changes: &'a [String],
    ) -> Derivation<'a> {
        Derivation {
            container,
            changes,
            author: "me",
            message: "why",
            layer: (store.add_blob(b"changes").unwrap(), 7),
        }
    }

    #[test]
    fn the_new_image_has_one_more_layer_and_the_containers_settings() {
        let (_folder, store, container) = image();
        let changes = ["LABEL k=v".to_owned()];
        let what = derivation(&store, &container, &changes);
        let name = "mine:2".parse().unwrap();
        let image = derive(&store, &what, Some(&name)).unwrap();
        assert_eq!(image.layers.len(), 2);
        assert_eq!(image.layers[1].diff_id, what.layer.0);
        assert_eq!(image.config.entrypoint, ["/e"]);
        assert_eq!(image.config.cmd, ["new", "word"]);
        assert_eq!(image.config.env, ["A=2"]);
        assert_eq!(
            (
                image.config.user.as_str(),
                image.config.working_dir.as_str()
            ),
            ("alice", "/w")
        );
        assert_eq!(image.config.labels["k"], "v");
        let document = std::fs::read(store.blob_path(&image.config_digest)).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let health = json!({"Test": ["CMD", "/check"], "Interval": 5_000_000, "Retries": 2});
        assert_eq!(document["config"]["Healthcheck"], health);
        assert_eq!(document["author"], "me");
        assert_eq!(document["variant"], "v2");
        assert_eq!(document["config"]["OnBuild"], json!(["X"]));
        assert_eq!(document.get("container"), None);
        assert_eq!(document["history"][0]["created_by"], "before");
        assert_eq!(document["history"][1]["comment"], "why");
        assert_eq!(document["history"][1]["created_by"], "/e new word");
    }

    #[test]
    fn another_entry_point_becomes_the_command() {
        let (_folder, store, mut container) = image();
        container.process.args = vec!["sh".to_owned()];
        let what = derivation(&store, &container, &[]);
        let image = derive(&store, &what, None).unwrap();
        assert!(image.config.entrypoint.is_empty());
        assert_eq!(image.config.cmd, ["sh"]);
        let digest = image.reference.digest();
        assert_eq!(
            digest,
            Some(&image.manifest_digest),
            "it has no name but its digest"
        );
        assert_eq!(store.list().unwrap().images.len(), 2);
    }

    #[test]
    fn a_lost_layer_is_named() {
        let (_folder, store, container) = image();
        std::fs::remove_file(store.blob_path(&container.layers[0])).unwrap();
        let what = derivation(&store, &container, &[]);
        let refused = check(&store, &what).unwrap_err().to_string();
        assert!(refused.contains("image base:1"), "{refused}");
    }
}
