//! Layers from the store to the engine, without a registry.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::error::ImageError;
use super::super::progress::{Progress, ProgressEvent};
use super::super::sink::LayerSink;
use super::super::store::{Image, ImageStore, read_ahead};
use super::super::text::short;
use super::flow::{begin_layer, finish_layer, unpack_error};
use super::{Delivery, Job, PARALLEL_LAYERS, first_failure, jobs};

/// Gives `sink` those layers of `image` that it wants, from the store. A layer
/// that is not what it should be is removed from the store, so that the next
/// pull mends the image.
pub async fn push_layers(
    store: &ImageStore,
    image: &Image,
    sink: Arc<dyn LayerSink>,
    progress: Arc<dyn Progress>,
) -> Result<(), ImageError> {
    let delivery = Delivery { sink, progress };
    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(PARALLEL_LAYERS));
    let jobs = jobs(&image.layers, &delivery).await?;
    for job in jobs.into_iter().filter(|job| job.diff_id.is_some()) {
        let (store, delivery) = (store.clone(), delivery.clone());
        let slots = Arc::clone(&slots);
        tasks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            match store.has_blob(&job.digest, job.size) {
                true => from_store(&store, &job, &delivery).await,
                false => Err(damaged(&job)),
            }
        });
    }
    first_failure(&mut tasks).await
}

/// Streams a blob of the store to the engine, where that wants its layer.
pub(super) async fn from_store(
    store: &ImageStore,
    job: &Job,
    delivery: &Delivery,
) -> Result<(), ImageError> {
    let Some(mut layer) = begin_layer(job, delivery).await? else {
        delivery.progress.event(ProgressEvent::Present(&job.digest));
        return Ok(());
    };
    delivery.progress.event(ProgressEvent::Started {
        digest: &job.digest,
        size: job.size,
        resumed: job.size,
    });
    let mut file = read_ahead(store.blob_path(&job.digest), job.size);
    let mut refused = None;
    while let Some(chunk) = file.chunks.recv().await {
        if refused.is_none() {
            refused = layer.write(chunk).await.err();
        }
    }
    // An engine that stumbles over damaged bytes is not to blame: the digest,
    // of the whole file, decides first.
    let digest = match file.digest.await {
        Ok(digest) => digest?,
        Err(_) => return Err(damaged(job)),
    };
    if digest != job.digest {
        store.remove_blob(&job.digest)?;
        return Err(damaged(job));
    }
    if let Some(source) = refused {
        return Err(unpack_error(job, source));
    }
    finish_layer(job, Some(layer)).await?;
    delivery.progress.event(ProgressEvent::Done(&job.digest));
    Ok(())
}

fn damaged(job: &Job) -> ImageError {
    ImageError::Damaged {
        what: format!("layer {}", short(&job.digest)),
    }
}
