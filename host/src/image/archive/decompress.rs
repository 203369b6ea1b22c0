//! Archives and layers, whatever they are compressed with, told by how they
//! begin.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use isolazi_protocol::Compression;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes by which compressions are told apart.
const MAGIC_BYTES: usize = 6;
/// More than any layer's encoder uses (`zstd --ultra -22` has 128 MiB).
const MAX_ZSTD_WINDOW: u64 = 128 << 20;
/// Decoded at once.
const BATCH_BYTES: usize = 256 << 10;

/// What the first bytes say.
pub(super) fn compression(start: &[u8]) -> io::Result<Compression> {
    let unsupported = |name: &str| {
        let hint = format!("it is compressed with {name}; use gzip, zstd or nothing");
        Err(io::Error::new(io::ErrorKind::InvalidData, hint))
    };
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame may come first (RFC 8878, section 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
        _ => Ok(Compression::None),
    }
}

/// Reads what `source` holds once it is decompressed.
pub(crate) fn decompressed<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    source
        .by_ref()
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut start)?;
    let compression = compression(&start)?;
    let whole = Cursor::new(start).chain(source);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(
            BATCH_BYTES,
            whole,
        ))),
        Compression::Zstd => Box::new(Frames::new(BufReader::with_capacity(BATCH_BYTES, whole))),
    })
}

/// The frames of a zstd stream, one after the other.
struct Frames<S> {
    source: S,
    decoder: FrameDecoder,
    within: bool,
}

impl<S: BufRead> Frames<S> {
    fn new(source: S) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_ZSTD_WINDOW);
        Self {
            source,
            decoder,
            within: false,
        }
    }

    /// Starts the next frame that has content; `false` where there is none.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => break,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        self.within = true;
        Ok(true)
    }

    fn check_end(&mut self) -> io::Result<()> {
        self.within = false;
        let said = self.decoder.get_checksum_from_data();
        match said.is_none() || said == self.decoder.get_calculated_checksum() {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum of a zstd frame is wrong",
            )),
        }
    }
}

impl<S: BufRead> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() && (self.within || self.advance()?) {
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                self.check_end()?;
                continue;
            }
            self.decoder
                .decode_blocks(
                    &mut self.source,
                    BlockDecodingStrategy::UptoBytes(BATCH_BYTES),
                )
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompressed(bytes)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn what_it_is_compressed_with_is_told_by_its_start() {
        let text = b"some text ".repeat(100_000);
        assert_eq!(read(&text).unwrap(), text);
        assert_eq!(read(&gzip(&text)).unwrap(), text);
        assert_eq!(read(&zstd(&text)).unwrap(), text);
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let twice = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(read(&twice).unwrap(), b"ab");
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
        let frames = [&skipped[..], &zstd(b"a"), &skipped, &zstd(b"b")].concat();
        assert_eq!(read(&frames).unwrap(), b"ab");
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        let text = b"some text ".repeat(10_000);
        for whole in [gzip(&text), zstd(&text)] {
            assert!(read(&whole[..whole.len() / 2]).is_err());
        }
        let error = read(b"\xfd7zXZ\0...").unwrap_err().to_string();
        assert!(error.contains("xz; use gzip"), "{error}");
    }
}
