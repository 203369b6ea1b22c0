//! A byte stream that is known by its frames only: passed on as it comes, up to the
//! frame that ends it, after which the conversation goes on.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec::{Frame, HEADER_BYTES, StreamId, decode_header};
use crate::transport::{Transport, TransportError};

/// Most bytes that go at once.
const PIECE: usize = 128 << 10;

impl<S: AsyncRead + Unpin> Transport<S> {
    /// Writes what comes of `stream` to `to`, up to its end. Bytes go on as they arrive,
    /// however many more their frame has.
    ///
    /// # Errors
    /// When either side fails, and when anything else comes.
    pub async fn receive_stream<W>(
        &mut self,
        stream: StreamId,
        to: &mut W,
    ) -> Result<(), TransportError>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let header = loop {
                match self.received.first_chunk::<HEADER_BYTES>() {
                    Some(header) => break *header,
                    None => self.read_more().await?,
                }
            };
            let (kind, mut left) = decode_header(header)?;
            if kind != Some(stream) {
                return Err(TransportError::OutOfTurn);
            }
            self.received.advance(HEADER_BYTES);
            if left == 0 {
                return Ok(());
            }
            while left > 0 {
                if self.received.is_empty() {
                    self.read_more().await?;
                }
                let count = left.min(self.received.len());
                to.write_all(&self.received[..count]).await?;
                to.flush().await?;
                self.received.advance(count);
                left -= count;
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), TransportError> {
        self.received.reserve(PIECE);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(TransportError::Closed),
            _ => Ok(()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Transport<S> {
    /// Sends what `from` has as it comes, and its end. Frames that `buffer` has already go
    /// along with the first of it; its room serves for the rest, and is left for later.
    ///
    /// # Errors
    /// When either side fails.
    pub async fn send_stream<R>(
        &mut self,
        stream: StreamId,
        buffer: &mut BytesMut,
        from: &mut R,
    ) -> Result<(), TransportError>
    where
        R: AsyncRead + Unpin,
    {
        loop {
            let header = buffer.len();
            buffer.resize(header + HEADER_BYTES, 0);
            buffer.reserve(PIECE);
            let ended = read_all_there_is(from, (&mut *buffer).limit(PIECE)).await?;
            let start = header + HEADER_BYTES;
            let length = buffer.len() - start;
            buffer[header..start].copy_from_slice(&stream.header(length)?);
            if length > 0 && matches!(ended, Some(Ok(()))) {
                Frame::end(stream).put(buffer)?;
            }
            self.send_raw(buffer).await?;
            buffer.clear();
            if let Some(ended) = ended {
                return Ok(ended?);
            }
        }
    }
}

/// Waits for bytes, and takes those that have come by then; how they ended, if they have.
/// What comes before a failure is not lost.
async fn read_all_there_is<R, B>(from: &mut R, mut buffer: B) -> io::Result<Option<io::Result<()>>>
where
    R: AsyncRead + Unpin,
    B: BufMut,
{
    if from.read_buf(&mut buffer).await? == 0 {
        return Ok(Some(Ok(())));
    }
    while buffer.has_remaining_mut() {
        let mut more = pin!(from.read_buf(&mut buffer));
        match poll_fn(|context| Poll::Ready(more.as_mut().poll(context))).await {
            Poll::Ready(Ok(0)) => return Ok(Some(Ok(()))),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Ok(Some(Err(error))),
            Poll::Pending => break,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use proptest::prelude::*;
    use tokio::io::{ReadBuf, duplex};

    use super::*;
    use crate::{Reply, ServerMessage};

    const STREAM: StreamId = StreamId::Bulk;

    /// A connection that has been reset.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    fn run<T>(what: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.build().unwrap().block_on(what)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn streams_arrive_whole_and_one_after_another(
            streams in proptest::collection::vec(0usize..300_000, 1..4),
            room in 1usize..200_000,
        ) {
            let bytes: Vec<Vec<u8>> = streams
                .iter()
                .map(|length| (0..*length).map(|at| at as u8).collect())
                .collect();
            let (near, far) = duplex(room);
            let (mut sender, mut receiver) = (Transport::new(near), Transport::new(far));
            let mut buffer = BytesMut::new();
            let sending = async {
                for stream in &bytes {
                    sender.send_stream(STREAM, &mut buffer, &mut &stream[..]).await?;
                }
                Ok::<_, TransportError>(())
            };
            let receiving = async {
                let mut received = Vec::new();
                for _ in &bytes {
                    let mut stream = Vec::new();
                    receiver.receive_stream(STREAM, &mut stream).await?;
                    received.push(stream);
                }
                Ok(received)
            };
            let ((), received) = run(async { tokio::try_join!(sending, receiving) }).unwrap();
            prop_assert_eq!(received, bytes);
        }
    }

    #[test]
    fn what_is_ahead_comes_first_and_in_one_piece_with_the_first_bytes() {
        run(async {
            let (near, mut far) = duplex(1 << 10);
            let mut ahead = BytesMut::new();
            let reply = ServerMessage::Reply(Ok(Reply::Done));
            Frame::control(&reply).unwrap().put(&mut ahead).unwrap();
            let ahead_of_it = ahead.len();
            Transport::new(near)
                .send_stream(STREAM, &mut ahead, &mut &b"hello"[..])
                .await
                .unwrap();
            assert!(ahead.is_empty());
            let mut piece = [0; 1 << 10];
            let length = far.read(&mut piece).await.unwrap();
            let rest = &piece[ahead_of_it..length];
            assert_eq!(rest, b"\x05\0\0\0\x04hello\0\0\0\0\x04");
            let mut receiver = Transport::with_received(far, piece[..length].to_vec().into());
            assert_eq!(
                receiver.receive_message::<ServerMessage>().await.unwrap(),
                reply
            );
            let mut bytes = Vec::new();
            receiver.receive_stream(STREAM, &mut bytes).await.unwrap();
            assert_eq!(bytes, b"hello");
        });
    }

    #[test]
    fn what_comes_before_a_failure_is_sent_and_no_end() {
        run(async {
            let (near, mut far) = duplex(1 << 10);
            let mut from = AsyncReadExt::chain(&b"hello"[..], Broken);
            let mut sender = Transport::new(near);
            let mut buffer = BytesMut::new();
            let sent = sender.send_stream(STREAM, &mut buffer, &mut from);
            assert!(matches!(sent.await, Err(TransportError::Io(_))));
            drop(sender);
            let mut wire = Vec::new();
            far.read_to_end(&mut wire).await.unwrap();
            assert_eq!(wire, b"\x05\0\0\0\x04hello");
        });
    }

    #[test]
    fn bytes_go_on_before_their_frame_is_whole() {
        run(async {
            let (mut near, far) = duplex(1 << 10);
            let (mut to, mut heard) = duplex(1 << 10);
            near.write_all(b"\x05\0\0\0\x04hel").await.unwrap();
            let mut receiver = Transport::new(far);
            let receiving = receiver.receive_stream(STREAM, &mut to);
            let hearing = async {
                let mut bytes = [0; 3];
                heard.read_exact(&mut bytes).await.unwrap();
                bytes
            };
            tokio::select! {
                ended = receiving => panic!("it ended: {ended:?}"),
                bytes = hearing => assert_eq!(&bytes, b"hel"),
            }
        });
    }

    #[test]
    fn an_end_in_the_middle_and_other_frames_are_errors() {
        let receive = |wire: &'static [u8]| {
            run(async {
                Transport::new(wire)
                    .receive_stream(STREAM, &mut Vec::new())
                    .await
            })
        };
        let cut: [&[u8]; 3] = [b"", b"\x05\0\0", b"\x05\0\0\0\x04hel"];
        for wire in cut {
            assert!(
                matches!(receive(wire), Err(TransportError::Closed)),
                "{wire:?}"
            );
        }
        for wire in [b"\x01\0\0\0\x02x", b"\x01\0\0\0\x00x"] {
            assert!(
                matches!(receive(wire), Err(TransportError::OutOfTurn)),
                "{wire:?}"
            );
        }
        let huge = receive(b"\xff\xff\xff\xff\x04");
        assert!(matches!(huge, Err(TransportError::Codec(_))));
    }
}
