//! Non-blocking descriptors under the shim's runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::readiness::watch;

/// A pipe's end or a terminal's master.
#[derive(Debug)]
pub(super) struct AsyncPipe(AsyncFd<OwnedFd>);

impl AsyncPipe {
    pub(super) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
        fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(watch(descriptor, interest)?))
    }

    /// Waits for bytes; 0 is the end. A terminal whose last user has gone
    /// reports EIO, which is its end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(result) = ready.try_io(|pipe| read_once(pipe.get_ref(), buffer)) {
                return result;
            }
        }
    }

    /// What is there now, or `None`.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match read_once(self.0.get_ref(), buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            let write = |pipe: &AsyncFd<OwnedFd>| Ok(nix::unistd::write(pipe.get_ref(), bytes)?);
            if let Ok(written) = ready.try_io(write) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }

    pub(super) fn descriptor(&self) -> impl AsFd + '_ {
        self.0.get_ref()
    }
}

fn read_once(descriptor: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(descriptor, buffer) {
            Err(Errno::EINTR) => {}
            Err(Errno::EIO) => return Ok(0),
            other => return Ok(other?),
        }
    }
}
