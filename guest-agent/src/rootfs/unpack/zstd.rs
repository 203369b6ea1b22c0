//! zstd as layers use it: any number of frames one after the other, skippable
//! ones among them (RFC 8878, section 3), with a bound on the memory that a
//! frame may ask for.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Decodes until so much is ready, to be collected at once.
const BATCH_BYTES: usize = 256 << 10;

/// Reads the content of all frames of `source`.
pub(super) struct ZstdFrames<S> {
    source: S,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<S: BufRead> ZstdFrames<S> {
    /// Refuses frames with a window above `max_window` bytes.
    pub(super) fn new(source: S, max_window: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window);
        Self {
            source,
            decoder,
            in_frame: false,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Begins the next frame with content; `false` at the end of the source.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(u64::from(length))?,
                Err(error) => return Err(invalid(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
        match skipped == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let announced = self.decoder.get_checksum_from_data();
        if announced.is_some() && announced != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "checksum of a zstd frame does not match",
            ));
        }
        Ok(())
    }
}

impl<S: BufRead> Read for ZstdFrames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.in_frame || self.next_frame()? {
            if self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let batch = BlockDecodingStrategy::UptoBytes(BATCH_BYTES);
                self.decoder
                    .decode_blocks(&mut self.source, batch)
                    .map_err(invalid)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if self.decoder.is_finished() {
                self.end_frame()?;
            }
        }
        Ok(0)
    }
}

fn invalid(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
