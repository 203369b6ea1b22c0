//! Decompressing on a thread of its own, while the caller's writes files.
//!
//! A few pieces go round and round, so memory is bounded, and whoever is
//! slower makes the other wait.

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use isolazi_protocol::Digest;

use super::UnpackError;
use super::plain::{Piece, Plain};
use super::stream::Pieces;

/// Pieces on their way, beside the one at each end.
const DEPTH: usize = 4;

type Message = Result<Piece, UnpackError>;

/// The caller's end.
pub(super) struct Piped {
    full: Receiver<Message>,
    spent: Sender<Piece>,
}

impl Pieces for Piped {
    fn next(&mut self, spent: Piece) -> Message {
        // The other side is gone once it has sent the last piece.
        let _ = self.spent.send(spent);
        self.full.recv().unwrap_or_else(|_| Ok(Piece::default()))
    }
}

/// Runs `consume` on the pieces of `plain`, which it must read to the end, and
/// returns its result with the stream's digest and length.
pub(super) fn with_pieces<R: Read + Send, T>(
    plain: Plain<R>,
    consume: impl FnOnce(Piped) -> Result<T, UnpackError>,
) -> Result<(T, (Digest, u64)), UnpackError> {
    thread::scope(|scope| {
        let (full_sender, full) = sync_channel(DEPTH);
        let (spent, spent_receiver) = channel();
        let producer = thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || produce(plain, &full_sender, &spent_receiver))
            .map_err(UnpackError::Thread)?;
        // An error in here drops the channel's ends, which ends the producer.
        let result = consume(Piped { full, spent });
        let summary = producer.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((result?, summary))
    })
}

/// Sends pieces until the stream ends, fails, or nobody listens any more.
fn produce<R: Read>(
    mut plain: Plain<R>,
    full: &SyncSender<Message>,
    spent: &Receiver<Piece>,
) -> (Digest, u64) {
    loop {
        let mut piece = spent.try_recv().unwrap_or_default();
        let result = plain.next(&mut piece);
        let last = result.is_err() || piece.bytes().is_empty();
        if full.send(result.map(|()| piece)).is_err() || last {
            return plain.finish();
        }
    }
}
