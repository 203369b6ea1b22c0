//! One blob, from the registry or the store.

use isolazi_protocol::one_line;

use super::super::error::ImageError;
use super::super::progress::ProgressEvent;
use super::super::store::Begin;
use super::super::text::short;
use super::flow::Flow;
use super::{Job, Pull, push};

/// Progress after which a broken connection counts as a new misfortune.
const FORGIVEN_AFTER: u64 = 1 << 20;

/// Sees to it that the blob is in the store, and its layer in the engine.
pub(super) async fn fetch(pull: &Pull, job: &Job) -> Result<(), ImageError> {
    match attempt(pull, job).await {
        // What an earlier pull had left was bad, or what the store held. It is
        // gone now: once more, from the start.
        Err(Failure {
            inherited: true, ..
        }) => attempt(pull, job).await.map_err(|failure| failure.error),
        outcome => outcome.map_err(|failure| failure.error),
    }
}

/// A failure, and whether bytes from before this pull may be at fault.
struct Failure {
    error: ImageError,
    inherited: bool,
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self {
            error,
            inherited: false,
        }
    }
}

async fn attempt(pull: &Pull, job: &Job) -> Result<(), Failure> {
    let waiting = || pull.tell(ProgressEvent::Waiting(&job.digest));
    match pull.store.begin(&job.digest, job.size, waiting).await? {
        Begin::Present => push::from_store(&pull.store, job, &pull.delivery)
            .await
            .map_err(|error| Failure {
                inherited: matches!(error, ImageError::Damaged { .. }),
                error,
            }),
        Begin::Partial(partial) => {
            let resumed = partial.length() > 0;
            let flow = Flow::start(job, partial, &pull.delivery).await?;
            download(pull, job, flow).await.map_err(|error| Failure {
                inherited: resumed && blames_content(&error),
                error,
            })
        }
    }
}

/// Whether other bytes would have made the difference.
fn blames_content(error: &ImageError) -> bool {
    matches!(
        error,
        ImageError::DigestMismatch { .. }
            | ImageError::SizeMismatch { .. }
            | ImageError::Sink { .. }
            | ImageError::Status { status: 416, .. }
    )
}

async fn download(pull: &Pull, job: &Job, mut flow: Flow<'_>) -> Result<(), ImageError> {
    let received = match flow.replay().await {
        Ok(()) => receive(pull, job, &mut flow).await,
        failed => failed,
    };
    flow.close(received).await
}

/// Receives what is missing, over as many connections as it takes.
async fn receive(pull: &Pull, job: &Job, flow: &mut Flow<'_>) -> Result<(), ImageError> {
    let network = &pull.options.network;
    let mut retries = network.retries;
    let mut pause = network.backoff;
    let mut mark = flow.received();
    while flow.received() < job.size {
        let Err(error) = receive_once(pull, job, flow).await else {
            continue;
        };
        if flow.received() - mark >= FORGIVEN_AFTER {
            mark = flow.received();
            (retries, pause) = (network.retries, network.backoff);
        }
        if !error.is_transient() || retries == 0 {
            return Err(error);
        }
        // A stall has cost much time already.
        retries = match error {
            ImageError::Stalled { .. } => retries / 2,
            _ => retries - 1,
        };
        pull.tell(ProgressEvent::Retrying {
            what: short(&job.digest),
            reason: &one_line(&error),
        });
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// Receives over one connection. A registry that knows no ranges sends
/// everything again; the digest will tell whether it is the same.
async fn receive_once(pull: &Pull, job: &Job, flow: &mut Flow<'_>) -> Result<(), ImageError> {
    let what = format!("layer {}", short(&job.digest));
    let offset = flow.received();
    let mut body = pull
        .registry
        .blob(&job.digest, &what, offset, job.size)
        .await?;
    let mut skip = offset - body.start;
    while let Some(mut chunk) = body.chunk().await? {
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        // Not more than the chunk's length, so it fits.
        let chunk = chunk.split_off(skipped as usize);
        if !chunk.is_empty() {
            flow.accept(chunk).await?;
        }
    }
    match flow.received() < job.size {
        true => Err(ImageError::wrong_size(&what, job.size, flow.received())),
        false => Ok(()),
    }
}
