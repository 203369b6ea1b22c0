//! The host's connections over AF_VSOCK.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_vsock::{VsockAddr, VsockListener, VsockStream};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST};

/// Sent at once at the most. From 32 KiB on the kernel scatters a packet over
/// several pages, and devices that take a packet to be one piece of memory
/// (vhost-device-vsock 0.3) drop it without a word.
const LARGEST_PACKET: usize = 16 << 10;

/// Waits for the host to connect.
#[derive(Debug)]
pub(super) struct Listener(VsockListener);

impl Listener {
    pub(super) fn bind(port: u32) -> io::Result<Self> {
        VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port)).map(Self)
    }

    /// The next connection from the host. Others are closed without an answer:
    /// a process in the guest must not reach the agent.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        loop {
            let (stream, peer) = self.0.accept().await?;
            if peer.cid() == VMADDR_CID_HOST {
                return Ok(Stream(stream));
            }
        }
    }
}

/// One connection from the host.
#[derive(Debug)]
pub(super) struct Stream(VsockStream);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let packet = &bytes[..bytes.len().min(LARGEST_PACKET)];
        Pin::new(&mut self.0).poll_write(context, packet)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
