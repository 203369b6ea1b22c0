//! The plain stream as the archive reads it: by blocks, stretches and skips,
//! with the position that error messages name.

use super::UnpackError;
use super::plain::Piece;

/// The size of a tar block.
pub(super) const BLOCK: usize = 512;

/// Where pieces come from.
pub(super) trait Pieces {
    /// The next piece, empty at the end. Takes back the one that was read.
    fn next(&mut self, spent: Piece) -> Result<Piece, UnpackError>;
}

/// A position in the plain stream.
pub(super) struct Stream<P> {
    pieces: P,
    piece: Piece,
    read: usize,
    offset: u64,
}

impl<P: Pieces> Stream<P> {
    pub(super) fn new(pieces: P) -> Self {
        Self {
            pieces,
            piece: Piece::default(),
            read: 0,
            offset: 0,
        }
    }

    /// What is wrong with the archive here.
    pub(super) fn malformed(&self, reason: &'static str) -> UnpackError {
        UnpackError::Malformed {
            offset: self.offset,
            reason,
        }
    }

    fn refill(&mut self) -> Result<bool, UnpackError> {
        if self.read == self.piece.bytes().len() {
            let spent = std::mem::take(&mut self.piece);
            self.piece = self.pieces.next(spent)?;
            self.read = 0;
        }
        Ok(!self.piece.bytes().is_empty())
    }

    /// Up to `limit` bytes, at least one; an error where the stream has ended.
    pub(super) fn some(&mut self, limit: u64) -> Result<&[u8], UnpackError> {
        if !self.refill()? {
            return Err(self.malformed("it ends in the middle of an entry"));
        }
        let start = self.read;
        let left = self.piece.bytes().len() - start;
        let count = usize::try_from(limit).map_or(left, |limit| limit.min(left));
        self.read += count;
        self.offset += count as u64;
        Ok(&self.piece.bytes()[start..start + count])
    }

    /// Fills `target`, or returns `false` where the stream has ended before.
    pub(super) fn block(&mut self, target: &mut [u8; BLOCK]) -> Result<bool, UnpackError> {
        if !self.refill()? {
            return Ok(false);
        }
        self.exact(target)?;
        Ok(true)
    }

    /// Fills `target`.
    pub(super) fn exact(&mut self, mut target: &mut [u8]) -> Result<(), UnpackError> {
        while !target.is_empty() {
            let bytes = self.some(target.len() as u64)?;
            let (now, later) = target.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            target = later;
        }
        Ok(())
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), UnpackError> {
        while count > 0 {
            count -= self.some(count)?.len() as u64;
        }
        Ok(())
    }

    /// Passes over `count` bytes, or returns `false` where the stream ends before.
    pub(super) fn skip_or_end(&mut self, mut count: u64) -> Result<bool, UnpackError> {
        while count > 0 {
            if !self.refill()? {
                return Ok(false);
            }
            count -= self.some(count)?.len() as u64;
        }
        Ok(true)
    }

    /// Reads to the end and hands back where the pieces came from.
    pub(super) fn drain(mut self) -> Result<P, UnpackError> {
        while self.refill()? {
            self.read = self.piece.bytes().len();
        }
        Ok(self.pieces)
    }
}
