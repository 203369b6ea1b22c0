//! From the store to a registry: blobs that are not there yet, several at once,
//! and last the manifest that vouches for them.

use std::sync::Arc;

use isolazi_protocol::{Digest, one_line};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::ImageError;
use super::manifest::MAX_MANIFEST_BYTES;
use super::progress::{Progress, ProgressEvent};
use super::pull::first_failure;
use super::reference::Reference;
use super::registry::{Access, NetworkOptions, Registry};
use super::store::{Image, ImageStore, read_ahead};
use super::text::short;

/// Blobs under way at once.
const PARALLEL_BLOBS: usize = 4;

/// What has become of an image at its registry.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Digest of its manifest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
}

/// What the parts of one push share.
struct Push {
    store: ImageStore,
    registry: Registry,
    progress: Arc<dyn Progress>,
}

/// A blob that is to be there in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Blob {
    digest: Digest,
    size: u64,
    what: String,
}

/// Pushes an image of the store to where `reference` says. Must be called on a
/// tokio runtime with its I/O and time drivers.
pub async fn push(
    store: &ImageStore,
    image: &Image,
    reference: &Reference,
    network: &NetworkOptions,
    progress: Arc<dyn Progress>,
) -> Result<Pushed, ImageError> {
    let manifest = store.read_blob("manifest", &image.manifest_digest, MAX_MANIFEST_BYTES)?;
    let descriptor = store.descriptor(image)?;
    let push = Arc::new(Push {
        store: store.clone(),
        registry: Registry::at(reference.registry(), reference, network, Access::Push)?,
        progress,
    });
    send_blobs(&push, blobs(store, image)?, network).await?;
    let tag = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => tag.to_owned(),
        _ => image.manifest_digest.to_string(),
    };
    let size = descriptor.size;
    push.registry
        .put_manifest(&tag, &descriptor.media_type, manifest)
        .await?;
    Ok(Pushed {
        digest: image.manifest_digest.clone(),
        size,
    })
}

fn blobs(store: &ImageStore, image: &Image) -> Result<Vec<Blob>, ImageError> {
    let mut blobs: Vec<Blob> = Vec::new();
    for layer in &image.layers {
        let blob = Blob {
            digest: layer.digest.clone(),
            size: layer.size,
            what: format!("layer {}", short(&layer.digest)),
        };
        if !blobs.contains(&blob) {
            blobs.push(blob);
        }
    }
    blobs.push(Blob {
        digest: image.config_digest.clone(),
        size: store.blob_size(&image.config_digest)?,
        what: format!("configuration {}", short(&image.config_digest)),
    });
    Ok(blobs)
}

async fn send_blobs(
    push: &Arc<Push>,
    blobs: Vec<Blob>,
    network: &NetworkOptions,
) -> Result<(), ImageError> {
    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(PARALLEL_BLOBS));
    for blob in blobs {
        let (push, slots) = (Arc::clone(push), Arc::clone(&slots));
        let (mut retries, mut pause) = (network.retries, network.backoff);
        tasks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            loop {
                match push.send(&blob).await {
                    Err(error) if error.is_transient() && retries > 0 => {
                        push.progress.event(ProgressEvent::Retrying {
                            what: short(&blob.digest),
                            reason: &one_line(&error),
                        });
                    }
                    outcome => return outcome,
                }
                tokio::time::sleep(pause).await;
                retries -= 1;
                pause *= 2;
            }
        });
    }
    first_failure(&mut tasks).await
}

impl Push {
    /// Sees to it that the registry has a blob.
    async fn send(&self, blob: &Blob) -> Result<(), ImageError> {
        let Blob { digest, size, what } = blob;
        let damaged = || ImageError::Damaged { what: what.clone() };
        if self.registry.has_blob(digest, what).await? {
            self.progress.event(ProgressEvent::Present(digest));
            return Ok(());
        }
        if !self.store.has_blob(digest, *size) {
            return Err(damaged());
        }
        let location = self.registry.start_upload(what).await?;
        self.progress.event(ProgressEvent::Sending {
            digest,
            size: *size,
        });
        let file = read_ahead(self.store.blob_path(digest), *size);
        let (progress, sent) = (Arc::clone(&self.progress), digest.clone());
        let tell = move |received| {
            progress.event(ProgressEvent::Advanced {
                digest: &sent,
                received,
            });
        };
        let location = self
            .registry
            .send_bytes(&location, file.chunks, *size, what, tell)
            .await?;
        let read = file.digest.await.map_err(|_| damaged())??;
        if read != *digest {
            // The registry must not be asked to keep it.
            self.store.remove_blob(digest)?;
            return Err(damaged());
        }
        self.registry.finish_upload(&location, digest, what).await?;
        self.progress.event(ProgressEvent::Done(digest));
        Ok(())
    }
}
