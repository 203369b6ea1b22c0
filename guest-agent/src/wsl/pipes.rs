//! Two pipes as one stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read comes from one pipe, and what is written goes to the other.
///
/// `wsl.exe` passes the end of our output on only when this process ends. So the end of
/// writing is that of reading, too: nobody waits for a peer that waits for us. What was
/// written before reaches the peer all the same, as pipes keep it.
#[derive(Debug)]
pub(super) struct Pipes<R, W> {
    from: R,
    to: W,
    is_over: bool,
    /// Waits for something to read.
    reader: Option<Waker>,
}

impl<R, W> Pipes<R, W> {
    pub(super) fn new(from: R, to: W) -> Self {
        Self {
            from,
            to,
            is_over: false,
            reader: None,
        }
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Pipes<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.from).poll_read(context, buffer);
        if read.is_pending() {
            self.reader = Some(context.waker().clone());
        }
        read
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Pipes<R, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.to).poll_shutdown(context));
        self.is_over = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;

    #[tokio::test]
    async fn the_end_of_writing_ends_a_reader_that_waits() {
        let (_theirs, ours) = duplex(16);
        let (from, _) = split(ours);
        let (to, mut written) = duplex(16);
        let (mut reader, mut writer) = split(Pipes::new(from, to));
        let read = async { reader.read_to_end(&mut Vec::new()).await };
        let write = async {
            tokio::task::yield_now().await;
            writer.write_all(b"last").await?;
            writer.shutdown().await
        };
        let (read, wrote) = tokio::join!(read, write);
        assert_eq!(read.unwrap(), 0);
        wrote.unwrap();
        let mut last = [0; 4];
        written.read_exact(&mut last).await.unwrap();
        assert_eq!(&last, b"last");
    }
}
