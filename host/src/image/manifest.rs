//! Manifests and indexes (image-spec `manifest.md`, `image-index.md`; Docker's
//! schema 2 has the same shape), read strictly: a document that could be taken
//! for two things is neither.

use isolazi_protocol::{Compression, Digest};
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::text::escape;

/// Largest manifest or index that is accepted.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// More than overlayfs can stack is of no use.
pub(crate) const MAX_LAYERS: usize = 500;
/// All layers of one image together, compressed.
pub(crate) const MAX_IMAGE_BYTES: u64 = 512 << 30;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// `Accept` of requests for manifests.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A reference to content, by digest and size (image-spec `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What a registry may answer when asked for a manifest.
#[derive(Debug)]
pub(crate) enum Document {
    Image(Manifest),
    Index(Vec<Descriptor>),
}

/// One platform's image.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: &'static str,
    pub(crate) config: Descriptor,
    /// Lowest first; at least one.
    pub(crate) layers: Vec<(Descriptor, Compression)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or an index. The error says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| escape(&error.to_string()))?;
        if raw.schema_version != 2 || raw.fs_layers.is_some() {
            return Err(format!(
                "manifest schema {} is not supported: push the image again with a current tool",
                raw.schema_version
            ));
        }
        let media_type = raw.media_type.as_deref();
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) => {
                let docker = config.media_type.starts_with("application/vnd.docker.");
                let fallback = if docker {
                    DOCKER_MANIFEST
                } else {
                    OCI_MANIFEST
                };
                let media_type = one_of(media_type, [OCI_MANIFEST, DOCKER_MANIFEST], fallback)?;
                Ok(Self::Image(Manifest::new(media_type, config, layers)?))
            }
            (None, None, Some(manifests)) => {
                one_of(media_type, [OCI_INDEX, DOCKER_LIST], OCI_INDEX)?;
                Ok(Self::Index(manifests))
            }
            (_, _, Some(_)) => Err("it is both a manifest and an index".to_owned()),
            _ => Err("it has no layers or no configuration".to_owned()),
        }
    }
}

fn one_of(
    media_type: Option<&str>,
    accepted: [&'static str; 2],
    fallback: &'static str,
) -> Result<&'static str, String> {
    match media_type {
        None | Some("") => Ok(fallback),
        Some(given) => accepted
            .into_iter()
            .find(|known| *known == given)
            .ok_or_else(|| format!("its media type '{}' does not fit", escape(given))),
    }
}

impl Manifest {
    fn new(
        media_type: &'static str,
        config: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<Self, String> {
        if layers.is_empty() {
            return Err("it has no layers".to_owned());
        }
        if layers.len() > MAX_LAYERS {
            return Err(format!(
                "{} layers are too many: at most {MAX_LAYERS} can be stacked",
                layers.len()
            ));
        }
        check_sizes(&layers)?;
        let layers = layers
            .into_iter()
            .map(|layer| Ok((compression(&layer.media_type)?, layer)))
            .map(|pair| pair.map(|(compression, layer)| (layer, compression)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            media_type,
            config,
            layers,
        })
    }
}

/// The sum must make sense, and one digest cannot have two sizes.
fn check_sizes(layers: &[Descriptor]) -> Result<(), String> {
    let mut total = 0u64;
    let mut sizes = std::collections::HashMap::new();
    for layer in layers {
        total = total.saturating_add(layer.size);
        if *sizes.entry(&layer.digest).or_insert(layer.size) != layer.size {
            return Err(format!("layer {} is listed with two sizes", layer.digest));
        }
    }
    match total {
        0..=MAX_IMAGE_BYTES => Ok(()),
        _ => Err(format!("its layers claim to be {total} bytes long")),
    }
}

/// How a layer of this media type is compressed.
fn compression(media_type: &str) -> Result<Compression, String> {
    let suffix = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ]
    .iter()
    .find_map(|prefix| media_type.strip_prefix(prefix));
    match suffix {
        Some("") => Ok(Compression::None),
        Some("+gzip" | ".gzip") => Ok(Compression::Gzip),
        Some("+zstd" | ".zstd") => Ok(Compression::Zstd),
        _ => Err(format!(
            "layers of type '{}' are not supported",
            escape(media_type)
        )),
    }
}

/// The entry of an index that serves `wanted` best, or the list of platforms
/// that are there. An entry that names no platform (a nested index, or an index
/// of one image) is taken where nothing fits better.
pub(crate) fn choose<'a>(
    entries: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, String> {
    let is_manifest = |entry: &&Descriptor| {
        matches!(
            entry.media_type.as_str(),
            "" | OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST
        )
    };
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(offered) => wanted.rank(&Platform::new(
            &offered.os,
            &offered.architecture,
            offered.variant.as_deref(),
        )),
        None => Some(u32::MAX),
    };
    entries
        .iter()
        .filter(is_manifest)
        .filter_map(|entry| Some((rank(entry)?, entry)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
        .ok_or_else(|| platforms(entries))
}

/// A readable list; attestations call themselves unknown/unknown.
fn platforms(entries: &[Descriptor]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(|platform| escape(&platform.to_string()))
        .collect();
    names.dedup();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("…".to_owned());
    }
    match names.is_empty() {
        true => "no platform at all".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(byte: u8) -> String {
        Digest::from_bytes(&[byte; 32]).to_string()
    }

    fn layer(byte: u8, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": digest(byte), "size": 10})
    }

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn manifest(layers: &serde_json::Value) -> serde_json::Value {
        json!({"schemaVersion": 2, "config": layer(0, "application/vnd.oci.image.config.v1+json"), "layers": layers})
    }

    fn error(document: &serde_json::Value) -> String {
        Document::parse(document.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn layer_types_tell_the_compression() {
        for (media_type, expected) in [
            (GZIP, Compression::Gzip),
            ("application/vnd.oci.image.layer.v1.tar", Compression::None),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                Compression::Zstd,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Compression::Gzip,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar",
                Compression::None,
            ),
        ] {
            assert_eq!(compression(media_type), Ok(expected));
        }
        assert!(compression("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").is_err());
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let mut both = manifest(&json!([layer(1, GZIP)]));
        both["manifests"] = json!([]);
        assert!(error(&both).contains("both"));

        let mut mislabelled = manifest(&json!([layer(1, GZIP)]));
        mislabelled["mediaType"] = json!(OCI_INDEX);
        assert!(error(&mislabelled).contains("does not fit"));

        assert!(error(&json!({"schemaVersion": 1, "fsLayers": []})).contains("schema 1"));
        assert!(error(&json!({"schemaVersion": 2})).contains("no layers"));
        assert!(error(&manifest(&json!([]))).contains("no layers"));
    }

    #[test]
    fn sizes_and_digests_must_make_sense() {
        let mut negative = layer(1, GZIP);
        negative["size"] = json!(-1);
        assert!(error(&manifest(&json!([negative]))).contains("-1"));

        let mut huge = layer(1, GZIP);
        huge["size"] = json!(u64::MAX);
        assert!(error(&manifest(&json!([huge, layer(2, GZIP)]))).contains("claim"));

        let mut other = layer(1, GZIP);
        other["size"] = json!(11);
        assert!(error(&manifest(&json!([layer(1, GZIP), other]))).contains("two sizes"));

        let mut path = layer(1, GZIP);
        path["digest"] = json!("sha256:../../../etc/passwd");
        assert!(error(&manifest(&json!([path]))).contains("not a digest"));

        let many: Vec<_> = (0..=MAX_LAYERS).map(|_| layer(1, GZIP)).collect();
        assert!(error(&manifest(&json!(many))).contains("too many"));
    }

    #[test]
    fn duplicate_layers_are_fine() {
        let document = manifest(&json!([layer(1, GZIP), layer(1, GZIP)]));
        assert!(Document::parse(document.to_string().as_bytes()).is_ok());
    }

    fn entry(byte: u8, platform: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::from_bytes(&[byte; 32]),
            size: 1,
            platform: platform.map(|text| {
                let parts: Vec<&str> = text.split('/').collect();
                Platform {
                    os: parts[0].into(),
                    architecture: parts[1].into(),
                    variant: parts.get(2).map(|variant| (*variant).into()),
                }
            }),
        }
    }

    #[test]
    fn the_platform_decides() {
        let entries = [
            entry(1, Some("unknown/unknown")),
            entry(2, Some("linux/arm64/v8")),
            entry(3, Some("linux/amd64/v3")),
            entry(4, Some("linux/amd64")),
        ];
        let chosen = |platform: &str| choose(&entries, &platform.parse().unwrap());
        assert_eq!(chosen("linux/amd64").unwrap(), &entries[3]);
        assert_eq!(chosen("linux/arm64").unwrap(), &entries[1]);
        assert_eq!(
            chosen("linux/s390x").unwrap_err(),
            "linux/arm64/v8, linux/amd64/v3, linux/amd64"
        );
        let lone = [entry(1, None)];
        assert!(choose(&lone, &"linux/s390x".parse().unwrap()).is_ok());
    }
}
