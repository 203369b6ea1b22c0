//! The bytes of one blob on their two ways.
//!
//! ```text
//!  network ─► accept ─┬─► channel ─► thread: hash, write ──► digest
//!                     └─► engine (while it is behind, nothing is received)
//! ```

use bytes::Bytes;
use isolazi_protocol::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::error::ImageError;
use super::super::progress::ProgressEvent;
use super::super::sink::LayerWriter;
use super::super::store::{Partial, Piece, read_ahead};
use super::super::text::short;
use super::{Delivery, Job, blocking};

/// Pieces between the network and the disk; hyper's are up to 400 KiB long.
const PIECES_IN_FLIGHT: usize = 16;

type Absorbed = (Partial, Result<Digest, ImageError>);

/// A blob under way. Must be closed; dropped, it leaves a partial blob that
/// can be resumed.
pub(super) struct Flow<'a> {
    job: &'a Job,
    delivery: &'a Delivery,
    partial: Inherited,
    pieces: mpsc::Sender<Piece>,
    disk: JoinHandle<Absorbed>,
    layer: Option<Box<dyn LayerWriter>>,
    received: u64,
}

/// What an earlier attempt has left.
struct Inherited {
    path: std::path::PathBuf,
    length: u64,
}

impl<'a> Flow<'a> {
    pub(super) async fn start(
        job: &'a Job,
        partial: Partial,
        delivery: &'a Delivery,
    ) -> Result<Self, ImageError> {
        let layer = begin_layer(job, delivery).await?;
        let inherited = Inherited {
            path: partial.path().to_owned(),
            length: partial.length(),
        };
        delivery.progress.event(ProgressEvent::Started {
            digest: &job.digest,
            size: job.size,
            resumed: inherited.length,
        });
        let (pieces, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let disk = tokio::task::spawn_blocking(move || partial.absorb(&mut receiver));
        Ok(Self {
            job,
            delivery,
            partial: inherited,
            pieces,
            disk,
            layer,
            received: 0,
        })
    }

    /// How many bytes of the blob are there.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Feeds what an earlier attempt has left.
    pub(super) async fn replay(&mut self) -> Result<(), ImageError> {
        if self.partial.length == 0 {
            return Ok(());
        }
        let mut file = read_ahead(self.partial.path.clone(), self.partial.length);
        while let Some(chunk) = file.chunks.recv().await {
            self.pass(Piece::Old(chunk.clone()), chunk).await?;
        }
        match file.digest.await {
            Ok(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the next bytes from the network.
    pub(super) async fn accept(&mut self, chunk: Bytes) -> Result<(), ImageError> {
        let received = self.received + chunk.len() as u64;
        if received > self.job.size {
            let what = format!("layer {}", short(&self.job.digest));
            return Err(ImageError::wrong_size(&what, self.job.size, received));
        }
        self.pass(Piece::New(chunk.clone()), chunk).await
    }

    async fn pass(&mut self, piece: Piece, chunk: Bytes) -> Result<(), ImageError> {
        self.received += chunk.len() as u64;
        // Where the thread has given up, `close` finds out why.
        if self.pieces.send(piece).await.is_err() {
            return Err(gone());
        }
        if let Some(layer) = &mut self.layer {
            layer
                .write(chunk)
                .await
                .map_err(|source| unpack_error(self.job, source))?;
        }
        self.delivery.progress.event(ProgressEvent::Advanced {
            digest: &self.job.digest,
            received: self.received,
        });
        Ok(())
    }

    /// Ends the flow: what was received well is verified and becomes part of
    /// the store, then of the engine; what was not is thrown away, unless it
    /// can be resumed.
    pub(super) async fn close(self, received: Result<(), ImageError>) -> Result<(), ImageError> {
        let Self {
            job,
            delivery,
            pieces,
            disk,
            layer,
            received: length,
            ..
        } = self;
        drop(pieces);
        let (partial, digest) = joined(disk).await;
        let verified = digest.and_then(|digest| received.and_then(|()| verify(job, digest)));
        if let Err(error) = verified {
            drop(layer);
            if length == 0 || !error.leaves_resumable() {
                blocking(|| partial.discard()).await?;
            }
            return Err(error);
        }
        // The blob is what it should be; to disk with both.
        let unpacked = finish_layer(job, layer);
        let (stored, unpacked) = tokio::join!(blocking(|| partial.commit()), unpacked);
        stored?;
        unpacked?;
        delivery.progress.event(ProgressEvent::Done(&job.digest));
        Ok(())
    }
}

async fn joined(disk: JoinHandle<Absorbed>) -> Absorbed {
    match disk.await {
        Ok(absorbed) => absorbed,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

fn verify(job: &Job, actual: Digest) -> Result<(), ImageError> {
    match actual == job.digest {
        true => Ok(()),
        false => Err(ImageError::DigestMismatch {
            what: format!("layer {}", short(&job.digest)),
            expected: job.digest.clone(),
            actual,
        }),
    }
}

/// A place in the engine, where it wants this layer.
pub(super) async fn begin_layer(
    job: &Job,
    delivery: &Delivery,
) -> Result<Option<Box<dyn LayerWriter>>, ImageError> {
    let Some(diff_id) = &job.diff_id else {
        return Ok(None);
    };
    delivery
        .sink
        .begin(diff_id, job.compression)
        .await
        .map(Some)
        .map_err(|source| unpack_error(job, source))
}

/// Tells the engine, if it has the layer, that its bytes were right.
pub(super) async fn finish_layer(
    job: &Job,
    layer: Option<Box<dyn LayerWriter>>,
) -> Result<(), ImageError> {
    match layer {
        Some(layer) => layer
            .finish()
            .await
            .map_err(|source| unpack_error(job, source)),
        None => Ok(()),
    }
}

pub(super) fn unpack_error(job: &Job, source: super::super::sink::SinkError) -> ImageError {
    ImageError::Sink {
        layer: short(&job.digest).to_owned(),
        source,
    }
}

/// Stands in until the real reason is known.
fn gone() -> ImageError {
    ImageError::Damaged {
        what: "a partial layer".to_owned(),
    }
}
