//! Frames over any asynchronous byte stream.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::codec::{CodecError, Frame, HEADER_BYTES, MAX_DATA_BYTES, decode};

/// Why a conversation broke off.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The peer closed the stream, in the middle of the conversation.
    #[error("the connection closed unexpectedly")]
    Closed,
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The peer sent something that is not a frame or not the expected message.
    #[error("the peer broke the protocol")]
    Codec(#[from] CodecError),
    /// A data frame arrived where a message was due, or the reverse.
    #[error("the peer sent a frame out of turn")]
    OutOfTurn,
}

/// A stream that carries [`Frame`]s, read and written in turn or, after
/// [`Transport::split`], at once.
#[derive(Debug)]
pub struct Transport<S> {
    pub(crate) stream: S,
    pub(crate) received: BytesMut,
}

impl<S: AsyncRead + Unpin> Transport<S> {
    /// The next frame, or `None` when the peer closed between frames.
    ///
    /// Cancel-safe: a frame that has arrived in part is kept for the next call.
    pub async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        loop {
            if let Some(frame) = Frame::take(&mut self.received)? {
                return Ok(Some(frame));
            }
            self.received.reserve(HEADER_BYTES + MAX_DATA_BYTES / 4);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return match self.received.is_empty() {
                    true => Ok(None),
                    false => Err(TransportError::Closed),
                };
            }
        }
    }

    /// A message that has arrived already; nothing is waited for.
    pub fn received_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, TransportError> {
        match Frame::take(&mut self.received)? {
            Some(Frame::Control(payload)) => Ok(Some(decode(&payload)?)),
            Some(Frame::Data(..)) => Err(TransportError::OutOfTurn),
            None => Ok(None),
        }
    }

    /// The next frame, which must be a message.
    pub async fn receive_message<T: DeserializeOwned>(&mut self) -> Result<T, TransportError> {
        match self.receive().await?.ok_or(TransportError::Closed)? {
            Frame::Control(payload) => Ok(decode(&payload)?),
            Frame::Data(..) => Err(TransportError::OutOfTurn),
        }
    }
}

impl<S: AsyncWrite + Unpin> Transport<S> {
    /// Sends one frame.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), TransportError> {
        let header = frame.header()?;
        let mut parts = bytes::Buf::chain(&header[..], &frame.payload()[..]);
        self.stream.write_all_buf(&mut parts).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends frames that are already encoded, such as several by
    /// [`Frame::put`], at once.
    pub async fn send_raw(&mut self, frames: &[u8]) -> Result<(), TransportError> {
        self.stream.write_all(frames).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends one message.
    pub async fn send_message<T: Serialize>(&mut self, message: &T) -> Result<(), TransportError> {
        self.send(&Frame::control(message)?).await
    }
}

impl<S> Transport<S> {
    /// Frames over `stream`, of which nothing has been read yet.
    pub fn new(stream: S) -> Self {
        Self::with_received(stream, Bytes::new())
    }

    /// Frames over `stream`, of which `received` has already been read.
    pub fn with_received(stream: S, received: Bytes) -> Self {
        Self {
            stream,
            received: BytesMut::from(received),
        }
    }

    /// The stream, and the bytes read from it that no frame has consumed.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.received.freeze())
    }
}

impl<S: AsyncRead + AsyncWrite> Transport<S> {
    /// A reading and a writing half, for tasks of their own.
    pub fn split(self) -> (Transport<ReadHalf<S>>, Transport<WriteHalf<S>>) {
        let (reader, writer) = tokio::io::split(self.stream);
        let reader = Transport {
            stream: reader,
            received: self.received,
        };
        (reader, Transport::new(writer))
    }
}
