//! AF_VSOCK for tokio: the host's connections as asynchronous streams.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{read, write};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

use crate::sys::readiness::watch;

/// Sent at once at the most. From 32 KiB on the kernel scatters a packet over
/// several pages, and devices that take a packet to be one piece of memory
/// (vhost-device-vsock 0.3) drop it without a word.
const LARGEST_PACKET: usize = 16 << 10;

/// Waits for the host to connect.
#[derive(Debug)]
pub(super) struct Listener {
    socket: VsockListener,
    /// A duplicate of the socket, whose readiness is the socket's.
    readiness: AsyncFd<OwnedFd>,
}

impl Listener {
    pub(super) fn bind(port: u32) -> io::Result<Self> {
        let socket = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
        socket.set_nonblocking(true)?;
        let readiness = watch(socket.try_clone()?.into(), Interest::READABLE)?;
        Ok(Self { socket, readiness })
    }

    /// The next connection from the host. Others are closed without an answer:
    /// a process in the guest must not reach the agent.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        loop {
            let mut ready = self.readiness.readable().await?;
            let Ok(accepted) = ready.try_io(|_| self.socket.accept()) else {
                continue;
            };
            let (stream, peer) = accepted?;
            if peer.cid() == VMADDR_CID_HOST {
                return Stream::new(stream);
            }
        }
    }
}

/// One connection from the host.
#[derive(Debug)]
pub(super) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    fn new(stream: VsockStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        watch(stream.into(), Interest::READABLE | Interest::WRITABLE).map(Self)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            match guard.try_io(|socket| Ok(read(socket.get_ref(), free)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let packet = &bytes[..bytes.len().min(LARGEST_PACKET)];
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|socket| Ok(write(socket.get_ref(), packet)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.0.as_raw_fd(), Shutdown::Write)?))
    }
}
