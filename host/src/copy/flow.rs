//! Bytes between a conversation, which must not block, and a thread that
//! reads or writes files. A few pieces may wait in between.

use std::io::{self, Write};

use bytes::Bytes;
use isolazi_protocol::PieceReader;
use tokio::sync::mpsc;

/// Bytes passed on at a time.
const PIECE: usize = 128 << 10;
/// Pieces that may wait.
const QUEUED: usize = 4;

/// From a conversation to a thread. Dropping the sender without an empty piece
/// is an unexpected end.
pub fn to_thread() -> (mpsc::Sender<Bytes>, PieceReader) {
    let (sender, pieces) = mpsc::channel(QUEUED);
    (sender, PieceReader::new(pieces))
}

/// From a thread to a conversation.
pub fn from_thread() -> (Sent, mpsc::Receiver<Bytes>) {
    let (sender, pieces) = mpsc::channel(QUEUED);
    let sent = Sent {
        sender,
        buffer: Vec::with_capacity(PIECE),
    };
    (sent, pieces)
}

/// The thread's end of [`from_thread`].
#[derive(Debug)]
pub struct Sent {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(full.into());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
