//! Bulk data between a conversation, which must not block, and a thread that
//! reads it as one stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// The thread's end. An empty piece is the end of the data; a sender that is
/// dropped without one has broken off.
#[derive(Debug)]
pub struct PieceReader {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl PieceReader {
    /// Reads what comes out of the channel.
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            ended: false,
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            let next = self.pieces.blocking_recv();
            self.piece = next.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ended = self.piece.is_empty();
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_piece_is_an_end() {
        let (sender, pieces) = mpsc::channel(4);
        for piece in ["one ", "two", ""] {
            sender.try_send(Bytes::from(piece)).unwrap();
        }
        let mut text = String::new();
        PieceReader::new(pieces).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");

        let (sender, pieces) = mpsc::channel(4);
        sender.try_send(Bytes::from("one")).unwrap();
        drop(sender);
        let broken = PieceReader::new(pieces).read_to_string(&mut text);
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
