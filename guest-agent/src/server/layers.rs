//! Layers on their way into the store.

use bytes::Bytes;
use isolazi_protocol::{
    Compression, Digest, ErrorCode, Frame, LayerBounds, PieceReader, Reply, StreamId, Transport,
    TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::rootfs::layers::StoreError;
use crate::rootfs::unpack::Options;
use crate::server::Engine;

/// Frames that may wait for the unpacker.
const QUEUED: usize = 8;

pub(super) type Unpacking = JoinHandle<Result<(), WireError>>;

pub(super) fn to_wire(error: &StoreError) -> WireError {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    WireError::new(error.code(), message)
}

impl Engine {
    /// Unpacks a layer while it arrives.
    pub(super) async fn put_layer<S>(
        &self,
        client: &mut Transport<S>,
        diff_id: Digest,
        compression: Compression,
        options: Options,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let result = match Self::require_root() {
            Ok(()) => {
                let (sender, pieces) = mpsc::channel(QUEUED);
                let unpacking =
                    self.unpack(diff_id, compression, PieceReader::new(pieces), options);
                feed(client, sender, unpacking).await?
            }
            Err(error) => Err(error),
        };
        Ok(result.map(|()| Reply::Done))
    }

    fn unpack(
        &self,
        diff_id: Digest,
        compression: Compression,
        layer: PieceReader,
        options: Options,
    ) -> Unpacking {
        let layers = self.layers.clone();
        tokio::task::spawn_blocking(move || {
            let stored = layers.put(&diff_id, compression, layer, &options);
            stored.map(drop).map_err(|error| to_wire(&error))
        })
    }
}

/// How to unpack within `bounds`.
pub(super) fn options(bounds: LayerBounds) -> Options {
    let mut options = Options::default();
    let limits = &mut options.limits;
    limits.bytes = bounds.bytes.unwrap_or(limits.bytes);
    limits.ratio = bounds.ratio.unwrap_or(limits.ratio);
    options
}

/// Passes the client's bytes to the unpacker, until either is done.
pub(super) async fn feed<S>(
    client: &mut Transport<S>,
    sender: mpsc::Sender<Bytes>,
    mut unpacking: Unpacking,
) -> Result<Result<(), WireError>, TransportError>
where
    S: AsyncRead + Unpin,
{
    loop {
        let frame = tokio::select! {
            result = &mut unpacking => return Ok(outcome(result)),
            frame = client.receive() => frame?.ok_or(TransportError::Closed)?,
        };
        let Frame::Data(StreamId::Bulk, bytes) = frame else {
            return Err(TransportError::OutOfTurn);
        };
        let ended = bytes.is_empty();
        // An unpacker that takes no more has its reason, which is told next.
        if sender.send(bytes).await.is_err() || ended {
            return Ok(outcome(unpacking.await));
        }
    }
}

fn outcome(joined: Result<Result<(), WireError>, tokio::task::JoinError>) -> Result<(), WireError> {
    joined.unwrap_or_else(|_| {
        Err(WireError::new(
            ErrorCode::Internal,
            "unpacking a layer failed unexpectedly; please report this",
        ))
    })
}
