//! From a reference to an image in the store, and layers in the engine.
//!
//! ```text
//!  tag ─► index? ─► manifest ─► configuration ─► which layers are missing?
//!                                                   │
//!                         up to four at once:       ▼
//!                         blob ─► hash, write ─► verified ─► fsync, rename
//!                            └──► engine unpacks ─► (verified) finish
//!                                                   │
//!                                                   ▼
//!                         configuration, manifest, and last the name
//! ```
//!
//! A failure leaves nothing that is listed; partial blobs stay only where the
//! network is to blame, for the next pull to continue.

mod blob;
mod flow;
mod push;

use std::sync::Arc;

use isolazi_protocol::{Compression, Digest, one_line};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::config::{ConfigFile, MAX_CONFIG_BYTES};
use super::error::ImageError;
use super::manifest::{Descriptor, Document, MAX_MANIFEST_BYTES, Manifest, choose};
use super::platform::Platform;
use super::progress::{Progress, ProgressEvent};
use super::reference::Reference;
use super::registry::{Access, NetworkOptions, Registry};
use super::sink::LayerSink;
use super::store::{Image, ImageStore, Layer, Leftover, digest_of, layers, parse_config};
use super::text::short;

pub use push::push_layers;

/// An index may point to indexes, but not without end.
const MAX_INDEX_DEPTH: usize = 3;
/// Layers under way at once.
const PARALLEL_LAYERS: usize = 4;

/// What to pull for, and how.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which image of an index is wanted.
    pub platform: Platform,
    /// How registries are talked to.
    pub network: NetworkOptions,
}

/// What the parts of one pull share.
struct Pull {
    store: ImageStore,
    registry: Registry,
    reference: Reference,
    options: PullOptions,
    delivery: Delivery,
}

/// Where layers go besides the store, and who is told.
#[derive(Clone)]
struct Delivery {
    sink: Arc<dyn LayerSink>,
    progress: Arc<dyn Progress>,
}

/// A blob that is to be there in the end, and its layer in the engine.
#[derive(Debug, Clone)]
struct Job {
    digest: Digest,
    size: u64,
    compression: Compression,
    /// The layer, where the engine wants it.
    diff_id: Option<Digest>,
}

/// A manifest as it came, and what it says.
struct Resolved {
    bytes: Vec<u8>,
    digest: Digest,
    manifest: Manifest,
}

/// Pulls an image into `store`, and those of its layers that `sink` wants into
/// `sink`. Must be called on a multi-threaded tokio runtime with its I/O and
/// time drivers. Dropping the future stops the pull; what has arrived of the
/// layers is kept for the next one.
pub async fn pull(
    store: &ImageStore,
    reference: &Reference,
    options: &PullOptions,
    sink: Arc<dyn LayerSink>,
    progress: Arc<dyn Progress>,
) -> Result<Image, ImageError> {
    let _hold = {
        let store = store.clone();
        blocking(move || store.hold()).await?
    };
    let mirrors = options.network.mirrors.get(reference.registry());
    for mirror in mirrors.into_iter().flatten() {
        let registry = Registry::at(mirror, reference, &options.network, Access::Pull)?;
        let delivery = Delivery {
            sink: Arc::clone(&sink),
            progress: Arc::clone(&progress),
        };
        match pull_from(registry, store, reference, options, delivery).await {
            Err(error) if error.is_the_registrys() => progress.event(ProgressEvent::Retrying {
                what: mirror,
                reason: &one_line(&error),
            }),
            outcome => return outcome,
        }
    }
    let registry = Registry::new(reference, &options.network)?;
    let delivery = Delivery { sink, progress };
    pull_from(registry, store, reference, options, delivery).await
}

/// Pulls from one registry: the image's own, or a mirror of it.
async fn pull_from(
    registry: Registry,
    store: &ImageStore,
    reference: &Reference,
    options: &PullOptions,
    delivery: Delivery,
) -> Result<Image, ImageError> {
    let pull = Arc::new(Pull {
        store: store.clone(),
        registry,
        reference: reference.clone(),
        options: options.clone(),
        delivery,
    });
    pull.tell(ProgressEvent::Resolving(reference));
    let resolved = pull.resolve().await?;
    let config = pull.config(&resolved.manifest.config).await?;
    let layers = pull.check(&resolved.manifest, &config.1)?;
    fetch_layers(&pull, &layers).await?;

    pull.store.add_blob(&config.0)?;
    pull.store.add_blob(&resolved.bytes)?;
    let image = pull.store.tag(reference, &resolved.digest)?;
    pull.tell(ProgressEvent::Complete {
        reference,
        manifest: &resolved.digest,
    });
    Ok(image)
}

impl Pull {
    fn tell(&self, event: ProgressEvent<'_>) {
        self.delivery.progress.event(event);
    }

    /// Follows indexes down to the manifest of the wanted platform.
    async fn resolve(&self) -> Result<Resolved, ImageError> {
        let mut wanted = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let mut pinned = self.reference.digest().cloned();
        for _ in 0..=MAX_INDEX_DEPTH {
            let bytes = self.manifest(&wanted, pinned.as_ref()).await?;
            match Document::parse(&bytes).map_err(|reason| self.malformed(reason))? {
                Document::Image(manifest) => {
                    return Ok(Resolved {
                        digest: digest_of(&bytes),
                        manifest,
                        bytes,
                    });
                }
                Document::Index(entries) => {
                    let entry = self.choose(&entries)?;
                    wanted = entry.digest.to_string();
                    pinned = Some(entry.digest.clone());
                }
            }
        }
        Err(self.malformed(format!(
            "indexes are nested more than {MAX_INDEX_DEPTH} deep"
        )))
    }

    /// A manifest or index, from the store where its digest is known and it is
    /// there, else from the registry.
    async fn manifest(&self, wanted: &str, pinned: Option<&Digest>) -> Result<Vec<u8>, ImageError> {
        if let Some(digest) = pinned
            && let Ok(bytes) = self.store.read_blob("manifest", digest, MAX_MANIFEST_BYTES)
        {
            return Ok(bytes);
        }
        let what = format!("the manifest of '{}'", self.reference);
        let bytes = self
            .retrying(&what, || self.registry.manifest(wanted))
            .await?;
        match pinned {
            Some(expected) => verify(&what, &bytes, expected).map(|()| bytes),
            None => Ok(bytes),
        }
    }

    fn choose<'a>(&self, entries: &'a [Descriptor]) -> Result<&'a Descriptor, ImageError> {
        choose(entries, &self.options.platform).map_err(|available| self.no_platform(available))
    }

    /// The image's configuration, as bytes and read.
    async fn config(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, ConfigFile), ImageError> {
        let digest = &descriptor.digest;
        let what = format!("the configuration of '{}'", self.reference);
        if descriptor.size > MAX_CONFIG_BYTES {
            return Err(ImageError::TooLarge {
                what,
                limit: MAX_CONFIG_BYTES,
            });
        }
        let bytes = match self.store.read_blob(&what, digest, descriptor.size) {
            Ok(bytes) => bytes,
            Err(_) => {
                self.retrying(&what, || self.small_blob(&what, descriptor))
                    .await?
            }
        };
        let config = parse_config(digest, &bytes)?;
        Ok((bytes, config))
    }

    /// A blob that fits in memory, verified.
    async fn small_blob(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let size = descriptor.size;
        let mut body = self
            .registry
            .blob(&descriptor.digest, what, 0, size)
            .await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > size {
                break;
            }
        }
        if bytes.len() as u64 != size {
            return Err(ImageError::wrong_size(what, size, bytes.len() as u64));
        }
        verify(what, &bytes, &descriptor.digest).map(|()| bytes)
    }

    /// Whether manifest and configuration belong together and to the wanted
    /// platform.
    fn check(&self, manifest: &Manifest, config: &ConfigFile) -> Result<Vec<Layer>, ImageError> {
        if let Some(platform) = config.platform()
            && self.options.platform.rank(&platform).is_none()
        {
            return Err(self.no_platform(platform.to_string()));
        }
        layers(manifest, config, &self.reference)
    }

    /// Tries again after a moment what a shaky network or an overloaded server
    /// may have spoilt. A registry that is not there at all is not waited for.
    async fn retrying<T, F>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ImageError>
    where
        F: Future<Output = Result<T, ImageError>>,
    {
        let mut pause = self.options.network.backoff;
        for _ in 0..self.options.network.retries {
            match attempt().await {
                Err(error)
                    if error.is_transient()
                        && !matches!(
                            error,
                            ImageError::Unreachable { .. } | ImageError::Stalled { .. }
                        ) =>
                {
                    self.tell(ProgressEvent::Retrying {
                        what,
                        reason: &one_line(&error),
                    });
                }
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        attempt().await
    }

    fn malformed(&self, reason: String) -> ImageError {
        ImageError::Malformed {
            what: format!("the manifest of '{}'", self.reference),
            reason,
        }
    }

    fn no_platform(&self, available: String) -> ImageError {
        ImageError::NoPlatform {
            image: self.reference.to_string(),
            wanted: self.options.platform.clone(),
            available,
        }
    }
}

/// Gets all layers, several at once. The first failure stops the others.
async fn fetch_layers(pull: &Arc<Pull>, layers: &[Layer]) -> Result<(), ImageError> {
    let jobs = jobs(layers, &pull.delivery).await?;
    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(PARALLEL_LAYERS));
    for job in jobs.clone() {
        let (pull, slots) = (Arc::clone(pull), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            blob::fetch(&pull, &job).await
        });
    }
    let outcome = first_failure(&mut tasks).await;
    if let Err(error) = &outcome {
        tidy(&pull.store, jobs, error.leaves_resumable()).await?;
    }
    outcome
}

/// Waits for all, or stops all after the first that fails.
pub(super) async fn first_failure(
    tasks: &mut JoinSet<Result<(), ImageError>>,
) -> Result<(), ImageError> {
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome.unwrap_or_else(|lost| match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only we cancel tasks, after this loop.
            Err(_) => Ok(()),
        });
        if outcome.is_err() {
            tasks.shutdown().await;
            return outcome;
        }
    }
    Ok(())
}

/// Removes what the parts of a failed pull have left, but for what a next one
/// can use.
async fn tidy(store: &ImageStore, jobs: Vec<Job>, resumable: bool) -> Result<(), ImageError> {
    let store = store.clone();
    let leftover = match resumable {
        true => Leftover::Empty,
        false => Leftover::Any,
    };
    blocking(move || {
        jobs.iter()
            .try_for_each(|job| store.discard_partial(&job.digest, leftover))
    })
    .await
}

/// One job a blob; a layer goes to the engine once, however often the image
/// names it.
async fn jobs(layers: &[Layer], delivery: &Delivery) -> Result<Vec<Job>, ImageError> {
    let mut diff_ids: Vec<Digest> = layers.iter().map(|it| it.diff_id.clone()).collect();
    diff_ids.sort_unstable();
    diff_ids.dedup();
    let mut wanted = delivery
        .sink
        .missing(&diff_ids)
        .await
        .map_err(|source| ImageError::Engine { source })?;
    let mut jobs: Vec<Job> = Vec::new();
    for layer in layers {
        let position = wanted.iter().position(|it| *it == layer.diff_id);
        let known = jobs.iter_mut().find(|job| job.digest == layer.digest);
        match (known, position) {
            (Some(_), None) => {}
            (Some(job), Some(_)) if job.diff_id.is_some() => {
                return Err(ImageError::Malformed {
                    what: format!("layer {}", short(&layer.digest)),
                    reason: "it is said to have two contents".to_owned(),
                });
            }
            (Some(job), Some(position)) => job.diff_id = Some(wanted.swap_remove(position)),
            (None, position) => jobs.push(Job {
                digest: layer.digest.clone(),
                size: layer.size,
                compression: layer.compression,
                diff_id: position.map(|position| wanted.swap_remove(position)),
            }),
        }
    }
    Ok(jobs)
}

fn verify(what: &str, bytes: &[u8], expected: &Digest) -> Result<(), ImageError> {
    let actual = digest_of(bytes);
    match actual == *expected {
        true => Ok(()),
        false => Err(ImageError::DigestMismatch {
            what: what.to_owned(),
            expected: expected.clone(),
            actual,
        }),
    }
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks cannot be cancelled once they run; before, only by
            // the end of the runtime that polls us.
            Err(_) => std::future::pending().await,
        },
    }
}
