//! Frames and their encoding. Does no I/O; the only file that names bincode.
//!
//! ```text
//!  ┌────────────┬──────────┬─────────────────┐
//!  │ length u32 │ kind u8  │ payload         │   little endian; length counts the payload
//!  └────────────┴──────────┴─────────────────┘
//! ```
//!
//! Kind 0 is a message in bincode's standard configuration; the other kinds
//! are the raw bytes of a [`StreamId`], so bulk data is never copied through a
//! serializer. A data frame without bytes ends its stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 5;
/// Largest encoded message. Enough for a container with thousands of variables.
pub const MAX_CONTROL_BYTES: usize = 4 << 20;
/// Largest payload of one data frame.
pub const MAX_DATA_BYTES: usize = 256 << 10;

const CONTROL_KIND: u8 = 0;

/// Which byte stream a data frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamId {
    /// To the container's standard input.
    Stdin = 1,
    /// From its standard output, or its terminal.
    Stdout = 2,
    /// From its standard error.
    Stderr = 3,
    /// A layer, an archive, a connection.
    Bulk = 4,
}

impl StreamId {
    fn from_kind(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Stdin,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::Bulk,
            _ => return None,
        })
    }

    /// What precedes `length` bytes of it.
    pub(crate) fn header(self, length: usize) -> Result<[u8; HEADER_BYTES], CodecError> {
        header(self as u8, length, MAX_DATA_BYTES)
    }
}

fn header(kind: u8, length: usize, limit: usize) -> Result<[u8; HEADER_BYTES], CodecError> {
    if length > limit {
        return Err(CodecError::TooLarge { length, limit });
    }
    let [a, b, c, d] = (length as u32).to_le_bytes();
    Ok([a, b, c, d, kind])
}

/// One unit on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An encoded message; see [`decode`].
    Control(Bytes),
    /// Bytes of a stream; none means that the stream ended.
    Data(StreamId, Bytes),
}

/// Why bytes are not a frame or not a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A frame announces more than its kind may carry.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// What the header says.
        length: usize,
        /// What the kind allows.
        limit: usize,
    },
    /// A frame of a kind this version does not know.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The payload is not the message that was expected.
    #[error("malformed message")]
    Malformed(#[source] bincode::error::DecodeError),
    /// Bytes follow the message within its frame.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// The message cannot be represented.
    #[error("message cannot be encoded")]
    Unencodable(#[source] bincode::error::EncodeError),
}

/// The kind and payload length of the frame that `header` opens, checked
/// against the limit of its kind. The stream is `None` for a message.
pub fn decode_header(header: [u8; HEADER_BYTES]) -> Result<(Option<StreamId>, usize), CodecError> {
    let [a, b, c, d, kind] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (stream, limit) = match kind {
        CONTROL_KIND => (None, MAX_CONTROL_BYTES),
        other => {
            let stream = StreamId::from_kind(other).ok_or(CodecError::UnknownKind(other))?;
            (Some(stream), MAX_DATA_BYTES)
        }
    };
    if length > limit {
        return Err(CodecError::TooLarge { length, limit });
    }
    Ok((stream, length))
}

impl Frame {
    /// The frame of a message.
    pub fn control<T: Serialize>(message: &T) -> Result<Self, CodecError> {
        Ok(Self::Control(encode(message)?.into()))
    }

    /// The frame that ends `stream`.
    pub fn end(stream: StreamId) -> Self {
        Self::Data(stream, Bytes::new())
    }

    /// The five bytes that precede the payload.
    pub fn header(&self) -> Result<[u8; HEADER_BYTES], CodecError> {
        match self {
            Self::Control(payload) => header(CONTROL_KIND, payload.len(), MAX_CONTROL_BYTES),
            Self::Data(stream, payload) => stream.header(payload.len()),
        }
    }

    /// What follows the header.
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Control(payload) | Self::Data(_, payload) => payload,
        }
    }

    /// Appends the frame to `buffer`.
    pub fn put(&self, buffer: &mut BytesMut) -> Result<(), CodecError> {
        let header = self.header()?;
        buffer.reserve(HEADER_BYTES + self.payload().len());
        buffer.put_slice(&header);
        buffer.put_slice(self.payload());
        Ok(())
    }

    /// Takes one whole frame from the front of `buffer`, or `None` until more
    /// bytes have arrived.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, CodecError> {
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let (stream, length) = decode_header(*header)?;
        if buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        buffer.advance(HEADER_BYTES);
        Ok(Some(Self::from_parts(
            stream,
            buffer.split_to(length).freeze(),
        )))
    }

    pub(crate) fn from_parts(stream: Option<StreamId>, payload: Bytes) -> Self {
        match stream {
            None => Self::Control(payload),
            Some(stream) => Self::Data(stream, payload),
        }
    }
}

/// Length prefixes inside a message are refused beyond the largest frame, so a
/// hostile peer cannot make the decoder reserve memory it never sends.
fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_CONTROL_BYTES>()
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(message, configuration()).map_err(CodecError::Unencodable)
}

/// Decodes a message that must fill `payload` exactly.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let (message, used) = bincode::serde::decode_from_slice(payload, configuration())
        .map_err(CodecError::Malformed)?;
    match payload.len() - used {
        0 => Ok(message),
        rest => Err(CodecError::Trailing(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hello, Request, ServerMessage};
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..2000);
        (0u8..5, bytes).prop_map(|(kind, bytes)| {
            let payload = Bytes::from(bytes);
            match StreamId::from_kind(kind) {
                None => Frame::Control(payload),
                Some(stream) => Frame::Data(stream, payload),
            }
        })
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(
            frames in proptest::collection::vec(any_frame(), 1..6),
            piece in 1usize..100,
        ) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                frame.put(&mut wire).unwrap();
            }
            let mut received = BytesMut::new();
            let mut taken = Vec::new();
            for part in wire.chunks(piece) {
                received.extend_from_slice(part);
                while let Some(frame) = Frame::take(&mut received).unwrap() {
                    taken.push(frame);
                }
            }
            prop_assert_eq!(frames, taken);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::take(&mut buffer) {}
            let _ = decode::<Hello>(&bytes);
            let _ = decode::<Request>(&bytes);
            let _ = decode::<ServerMessage>(&bytes);
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_header_alone() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0][..]);
        assert!(matches!(
            Frame::take(&mut buffer),
            Err(CodecError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_length_prefix_beyond_the_limit_reserves_nothing() {
        // A string that claims 2^63 bytes.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 63).to_le_bytes());
        assert!(matches!(
            decode::<String>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }
}
