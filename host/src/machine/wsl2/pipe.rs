//! A child's standard streams as one stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// What is written is the child's input, what is read its output. The child is not
/// ended with this value: it ends by itself when nobody is there any more.
#[derive(Debug)]
pub(super) struct Pipe {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
    /// Nothing has been read yet.
    silent: bool,
    /// Taken back where the child ends without a word.
    ready: Arc<AtomicBool>,
}

impl Pipe {
    /// `None` for a child without pipes.
    pub(super) fn new(mut child: Child, ready: Arc<AtomicBool>) -> Option<Self> {
        Some(Self {
            input: Some(child.stdin.take()?),
            output: child.stdout.take()?,
            _child: child,
            silent: true,
            ready,
        })
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.output).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.silent = false;
        } else if self.silent {
            self.ready.store(false, Ordering::Release);
        }
        Poll::Ready(result)
    }
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => closed(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => closed(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            ready!(Pin::new(input).poll_shutdown(context))?;
        }
        // A pipe ends when it is closed.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
