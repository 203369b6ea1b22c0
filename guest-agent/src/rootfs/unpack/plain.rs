//! From a layer's bytes as they arrive to its plain tar: decompressed, hashed
//! and counted, in large pieces.
//!
//! ```text
//!  reader ─► Counted ─► gzip │ zstd │ none ─► Plain: SHA-256, limits ─► Piece, Piece, …
//! ```

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use isolazi_protocol::{Compression, Digest};
use sha2::{Digest as _, Sha256};

use super::zstd::ZstdFrames;
use super::{Limits, UnpackError};

/// Plain bytes handed on at a time: large enough that calls do not count, small
/// enough to stay in a core's cache between decompressing, hashing and writing.
const PIECE_BYTES: usize = 256 << 10;
/// Compressed bytes read at a time.
const INPUT_BYTES: usize = 128 << 10;

/// A stretch of the plain stream; it gets room when it is first filled.
#[derive(Debug, Default)]
pub(super) struct Piece {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

/// The source, with a count of what came and the first error that it gave, so
/// that a broken connection is told from broken content.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = error.kind();
                    self.failure.get_or_insert(error);
                    return Err(kind.into());
                }
                Ok(count) => {
                    self.bytes += count as u64;
                    return Ok(count);
                }
            }
        }
    }
}

enum Decoder<R: Read> {
    None(Counted<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Counted<R>>>>),
    Zstd(Box<ZstdFrames<BufReader<Counted<R>>>>),
}

impl<R: Read> Decoder<R> {
    fn new(source: R, compression: Compression, limits: &Limits) -> Self {
        let source = Counted {
            inner: source,
            bytes: 0,
            failure: None,
        };
        let buffered = |source| BufReader::with_capacity(INPUT_BYTES, source);
        match compression {
            Compression::None => Self::None(source),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(source)))),
            Compression::Zstd => Self::Zstd(Box::new(ZstdFrames::new(
                buffered(source),
                limits.zstd_window,
            ))),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }

    fn source(&mut self) -> &mut Counted<R> {
        match self {
            Self::None(source) => source,
            Self::Gzip(decoder) => decoder.get_mut().get_mut(),
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
        }
    }
}

/// The plain stream of a layer.
pub(super) struct Plain<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    hasher: Sha256,
    bytes: u64,
    limits: Limits,
}

impl<R: Read> Plain<R> {
    pub(super) fn new(source: R, compression: Compression, limits: &Limits) -> Self {
        Self {
            decoder: Decoder::new(source, compression, limits),
            compression,
            hasher: Sha256::new(),
            bytes: 0,
            limits: *limits,
        }
    }

    /// Fills `piece` with the next bytes; it stays empty at the end.
    pub(super) fn next(&mut self, piece: &mut Piece) -> Result<(), UnpackError> {
        piece.filled = 0;
        if piece.buffer.is_empty() {
            piece.buffer = vec![0; PIECE_BYTES].into_boxed_slice();
        }
        while piece.filled < piece.buffer.len() {
            match self.decoder.read(&mut piece.buffer[piece.filled..]) {
                Ok(0) => break,
                Ok(count) => piece.filled += count,
                Err(error) => return Err(self.explain(error)),
            }
        }
        self.bytes += piece.filled as u64;
        self.check_limits()?;
        self.hasher.update(piece.bytes());
        Ok(())
    }

    /// The digest of all that [`Plain::next`] returned, and its length.
    pub(super) fn finish(self) -> (Digest, u64) {
        (
            Digest::from_bytes(&self.hasher.finalize().into()),
            self.bytes,
        )
    }

    fn check_limits(&mut self) -> Result<(), UnpackError> {
        let Limits {
            bytes,
            ratio,
            ratio_counts_from,
            ..
        } = self.limits;
        if self.bytes > bytes {
            return Err(UnpackError::Limit {
                what: "bytes when unpacked (see [layers] in config.toml)",
                limit: bytes,
            });
        }
        let source = self.decoder.source().bytes;
        if self.bytes > ratio_counts_from && self.bytes / ratio.max(1) > source {
            return Err(UnpackError::Limit {
                what: "times its compressed size (see [layers] in config.toml)",
                limit: ratio,
            });
        }
        Ok(())
    }

    fn explain(&mut self, error: io::Error) -> UnpackError {
        match self.decoder.source().failure.take() {
            Some(failure) => UnpackError::Source(failure),
            None => UnpackError::Corrupt {
                compression: match self.compression {
                    Compression::None => "plain",
                    Compression::Gzip => "gzip",
                    Compression::Zstd => "zstd",
                },
                source: error,
            },
        }
    }
}
