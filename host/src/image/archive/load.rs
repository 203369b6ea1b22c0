//! Images from an archive.
//!
//! ```text
//!  entries ─► hashed, aside ─► index.json?    ─► manifests ──┐
//!                              manifest.json? ─► made up ────┼─► all there? ─► blobs, then names
//! ```

use std::collections::HashMap;
use std::io::Read;

use isolazi_protocol::{Compression, Digest};
use serde::Deserialize;
use serde_json::json;

use super::super::config::MAX_CONFIG_BYTES;
use super::super::error::ImageError;
use super::super::manifest::{
    DOCKER_MANIFEST, Descriptor, Document, MAX_MANIFEST_BYTES, Manifest, choose,
};
use super::super::platform::Platform;
use super::super::reference::Reference;
use super::super::store::{Image, ImageStore, digest_of, layers, parse_config};
use super::super::text::{escape, short};
use super::ArchiveError;
use super::contents::Contents;
use super::save::{FULL_NAME, TAG};
use super::stage::Staged;

/// Indexes of indexes.
const MAX_DEPTH: usize = 4;
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// An image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The image, under one of its names.
    pub image: Image,
    /// Its names; none where the archive gave it none.
    pub names: Vec<Reference>,
}

/// Reads all images of an archive into the store. Of an index, the image that
/// suits `platform` is taken. Blocks.
pub fn load(
    store: &ImageStore,
    from: impl Read,
    platform: &Platform,
) -> Result<Vec<Loaded>, ArchiveError> {
    let _hold = store.hold()?;
    let mut contents = Contents::read(store, from)?;
    let plans = match (contents.has("index.json"), contents.has("manifest.json")) {
        (true, _) => contents.of_index(platform)?,
        (false, true) => contents.of_docker()?,
        (false, false) => return Err(ArchiveError::NoImages),
    };
    for plan in &plans {
        plan.check(&contents)?;
    }
    plans
        .into_iter()
        .map(|plan| plan.carry_out(store, &mut contents))
        .collect()
}

/// An image that is to be added.
struct Plan {
    names: Vec<Reference>,
    bytes: Vec<u8>,
    manifest: Manifest,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(flatten)]
    descriptor: Descriptor,
    annotations: Option<HashMap<String, String>>,
}

/// An element of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Contents {
    /// The images of `index.json`.
    fn of_index(&self, platform: &Platform) -> Result<Vec<Plan>, ArchiveError> {
        let bytes = self
            .file("index.json")?
            .document("index.json", MAX_MANIFEST_BYTES)?;
        let what = "index.json";
        match Document::parse(&bytes).map_err(|it| ArchiveError::malformed(what, it))? {
            Document::Index(_) => {}
            Document::Image(_) => return Err(ArchiveError::malformed(what, "it is no index")),
        }
        let index: Index = parse(what, &bytes)?;
        let suits = |named: &Named| {
            let offered = named.descriptor.platform.as_ref();
            offered.is_none_or(|offered| platform.rank(offered).is_some())
        };
        let any = index.manifests.iter().any(suits);
        let mut plans: Vec<Plan> = Vec::new();
        for named in index.manifests.iter().filter(|it| !any || suits(it)) {
            let (bytes, manifest) = self.manifest(&named.descriptor, platform)?;
            let digest = digest_of(&bytes);
            let mut names = named.names(&digest)?;
            if names.is_empty() && self.has("manifest.json") {
                names = self.docker_names(&manifest.config.digest)?;
            }
            match plans.iter_mut().find(|it| digest_of(&it.bytes) == digest) {
                Some(known) => known.names.extend(names),
                None => plans.push(Plan {
                    names,
                    bytes,
                    manifest,
                }),
            }
        }
        match plans.is_empty() {
            true => Err(ArchiveError::NoImages),
            false => Ok(plans),
        }
    }

    /// Follows indexes down to the manifest for `platform`.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<(Vec<u8>, Manifest), ArchiveError> {
        let mut descriptor = descriptor.clone();
        for _ in 0..MAX_DEPTH {
            let blob = self.blob("manifest", &descriptor.digest)?;
            check_size("manifest", &descriptor, blob)?;
            let what = format!("manifest {}", short(&descriptor.digest));
            let bytes = blob.document(&what, MAX_MANIFEST_BYTES)?;
            match Document::parse(&bytes).map_err(|it| ArchiveError::malformed(&what, it))? {
                Document::Image(manifest) => return Ok((bytes, manifest)),
                Document::Index(entries) => {
                    let chosen = choose(&entries, platform);
                    descriptor = chosen
                        .map_err(|available| no_platform(&what, platform, available))?
                        .clone();
                }
            }
        }
        Err(ArchiveError::malformed(
            "index",
            format!("indexes are nested more than {MAX_DEPTH} deep"),
        ))
    }

    fn docker_images(&self) -> Result<Vec<DockerImage>, ArchiveError> {
        let what = "manifest.json";
        let bytes = self.file(what)?.document(what, MAX_MANIFEST_BYTES)?;
        parse(what, &bytes)
    }

    /// What `manifest.json` calls the image of this configuration.
    fn docker_names(&self, config: &Digest) -> Result<Vec<Reference>, ArchiveError> {
        let mut names = Vec::new();
        for image in self.docker_images()? {
            if self.file(&image.config)?.digest == *config {
                names.extend(image.names()?);
            }
        }
        Ok(names)
    }

    /// The images of `manifest.json`, which have no manifest of the image-spec
    /// and get one.
    fn of_docker(&self) -> Result<Vec<Plan>, ArchiveError> {
        let images = self.docker_images()?;
        if images.is_empty() {
            return Err(ArchiveError::NoImages);
        }
        images.iter().map(|image| self.docker_plan(image)).collect()
    }

    fn docker_plan(&self, image: &DockerImage) -> Result<Plan, ArchiveError> {
        let config = self.file(&image.config)?;
        let layers = image.layers.iter().flatten();
        let layers: Vec<_> = layers
            .map(|name| {
                let layer = self.file(name)?;
                let ending = match layer.compression()? {
                    Compression::None => "",
                    Compression::Gzip => ".gzip",
                    Compression::Zstd => ".zstd",
                };
                Ok(json!({
                    "mediaType": format!("{DOCKER_LAYER}{ending}"),
                    "digest": layer.digest,
                    "size": layer.size,
                }))
            })
            .collect::<Result<_, ArchiveError>>()?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": DOCKER_CONFIG,
                "digest": config.digest,
                "size": config.size,
            },
            "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let what = "manifest.json";
        match Document::parse(&bytes).map_err(|it| ArchiveError::malformed(what, it))? {
            Document::Image(manifest) => Ok(Plan {
                names: image.names()?,
                bytes,
                manifest,
            }),
            Document::Index(_) => Err(ArchiveError::malformed(what, "it is an index")),
        }
    }
}

impl Named {
    fn names(&self, digest: &Digest) -> Result<Vec<Reference>, ArchiveError> {
        let annotation = |key| self.annotations.as_ref().and_then(|all| all.get(key));
        // A bare tag says nothing about whose it is.
        let name = annotation(FULL_NAME)
            .or_else(|| annotation(TAG).filter(|name| name.contains([':', '/'])));
        let names = name.map(|name| named(name)).transpose()?;
        match names {
            Some(name) if name.digest().is_some_and(|it| it != digest) => Err(
                ArchiveError::malformed("index.json", format!("it calls another image '{name}'")),
            ),
            names => Ok(names.into_iter().collect()),
        }
    }
}

impl DockerImage {
    fn names(&self) -> Result<Vec<Reference>, ArchiveError> {
        let tags = self.repo_tags.iter().flatten();
        let names = tags.map(|tag| match named(tag)? {
            name if name.digest().is_some() => Err(ArchiveError::malformed(
                "manifest.json",
                format!("'{name}' is no tag"),
            )),
            name => Ok(name),
        });
        names.collect()
    }
}

impl Plan {
    /// Whether all of it is there and fits together.
    fn check(&self, contents: &Contents) -> Result<(), ArchiveError> {
        let config = contents.blob("configuration", &self.manifest.config.digest)?;
        check_size("configuration", &self.manifest.config, config)?;
        let bytes = config.document("configuration", MAX_CONFIG_BYTES)?;
        let parsed = parse_config(&config.digest, &bytes)?;
        let name = self.name();
        for layer in layers(&self.manifest, &parsed, &name)? {
            let blob = contents.blob("layer", &layer.digest)?;
            if blob.size != layer.size {
                let what = format!("layer {} of the archive", short(&layer.digest));
                return Err(ImageError::wrong_size(&what, layer.size, blob.size).into());
            }
            // What is not compressed can be checked at once; the engine checks
            // all when it unpacks them.
            if layer.compression == Compression::None && layer.digest != layer.diff_id {
                return Err(ArchiveError::Image(ImageError::DigestMismatch {
                    what: format!("the content of layer {}", short(&layer.digest)),
                    expected: layer.diff_id,
                    actual: layer.digest,
                }));
            }
        }
        Ok(())
    }

    fn name(&self) -> Reference {
        let unnamed = || Reference::unnamed(&digest_of(&self.bytes));
        self.names.first().cloned().unwrap_or_else(unnamed)
    }

    fn carry_out(
        self,
        store: &ImageStore,
        contents: &mut Contents,
    ) -> Result<Loaded, ArchiveError> {
        let blobs = self.manifest.layers.iter().map(|(layer, _)| &layer.digest);
        for digest in blobs.chain([&self.manifest.config.digest]) {
            contents.commit(digest)?;
        }
        let manifest = store.add_blob(&self.bytes)?;
        let mut image = None;
        for name in &self.names {
            image = Some(store.tag_named(name, &manifest)?);
        }
        let image = match image {
            Some(image) => image,
            None => store.keep_unnamed(&manifest)?,
        };
        Ok(Loaded {
            image,
            names: self.names,
        })
    }
}

fn named(text: &str) -> Result<Reference, ArchiveError> {
    text.parse().map_err(|error: super::super::ReferenceError| {
        ArchiveError::malformed("a name", escape(&error.to_string()))
    })
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::malformed(what, escape(&error.to_string())))
}

fn check_size(kind: &str, descriptor: &Descriptor, blob: &Staged) -> Result<(), ArchiveError> {
    if blob.size == descriptor.size {
        return Ok(());
    }
    let what = format!("{kind} {} of the archive", short(&descriptor.digest));
    Err(ImageError::wrong_size(&what, descriptor.size, blob.size).into())
}

fn no_platform(what: &str, wanted: &Platform, available: String) -> ArchiveError {
    ArchiveError::Image(ImageError::NoPlatform {
        image: what.to_owned(),
        wanted: wanted.clone(),
        available,
    })
}
