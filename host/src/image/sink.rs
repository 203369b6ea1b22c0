//! Where layers go while they are pulled: the engine that unpacks them.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::{Compression, Digest};

/// Why an engine did not take a layer.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// An engine that keeps unpacked layers.
///
/// The bytes it is given are compressed as they came; until
/// [`LayerWriter::finish`] is called they are nobody's word for anything. The
/// engine checks the diff-id itself.
pub trait LayerSink: Send + Sync {
    /// Those of `diff_ids` that it wants.
    fn missing<'a>(
        &'a self,
        diff_ids: &'a [Digest],
    ) -> BoxFuture<'a, Result<Vec<Digest>, SinkError>>;

    /// Starts one layer. Several may be under way at once.
    fn begin<'a>(
        &'a self,
        diff_id: &'a Digest,
        compression: Compression,
    ) -> BoxFuture<'a, Result<Box<dyn LayerWriter>, SinkError>>;
}

/// Takes one layer. Dropping it before [`LayerWriter::finish`] throws away
/// what it was given.
pub trait LayerWriter: Send {
    /// The next bytes; waits while the engine is behind.
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), SinkError>>;

    /// The bytes are complete and their digest was right: keep the layer.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>>;
}

/// A sink that wants nothing: `pull` without an engine.
#[derive(Debug, Clone, Copy)]
pub struct NullSink;

impl LayerSink for NullSink {
    fn missing<'a>(&'a self, _: &'a [Digest]) -> BoxFuture<'a, Result<Vec<Digest>, SinkError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn begin<'a>(
        &'a self,
        _: &'a Digest,
        _: Compression,
    ) -> BoxFuture<'a, Result<Box<dyn LayerWriter>, SinkError>> {
        async { Ok(Box::new(NullWriter) as Box<dyn LayerWriter>) }.boxed()
    }
}

struct NullWriter;

impl LayerWriter for NullWriter {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}
