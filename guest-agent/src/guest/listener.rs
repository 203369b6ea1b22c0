//! The host's connections over AF_VSOCK.

use std::io;

use nix::sys::socket::{Backlog, listen};
use tokio_vsock::{VsockAddr, VsockListener, VsockStream};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST};

/// Waits for the host to connect.
#[derive(Debug)]
pub(super) struct Listener(VsockListener);

impl Listener {
    pub(super) fn bind(port: u32) -> io::Result<Self> {
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))?;
        // Whoever comes when the line is full is refused; the crate's is 128.
        listen(&listener, Backlog::MAXALLOWABLE)?;
        Ok(Self(listener))
    }

    /// The next connection from the host. Others are closed without an answer:
    /// a process in the guest must not reach the agent.
    pub(super) async fn accept(&self) -> io::Result<VsockStream> {
        loop {
            let (stream, peer) = self.0.accept().await?;
            if peer.cid() == VMADDR_CID_HOST {
                return Ok(stream);
            }
        }
    }
}
