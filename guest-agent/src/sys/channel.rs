//! A socket pair that keeps messages apart and may carry a descriptor with
//! one: unix(7), `SOCK_SEQPACKET` and `SCM_RIGHTS`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// One message, as received.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the message; 0 is the end of the stream.
    pub length: usize,
    /// The first descriptor that came with it, close-on-exec.
    pub descriptor: Option<OwnedFd>,
}

/// Both ends, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// Sends one message. Fails with `EPIPE`, and without a signal, where the
/// other end is closed.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let raw = descriptor.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(message)],
        rights.as_slice(),
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

/// Waits for the next message, or the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!([RawFd; 1]);
    let message = loop {
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        match received {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptor = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            for fd in fds {
                // SAFETY: the kernel just installed this descriptor for this
                // message; nothing else owns it. Those after the first close.
                let owned = unsafe { OwnedFd::from_raw_fd(fd) };
                descriptor.get_or_insert(owned);
            }
        }
    }
    Ok(Received {
        length: message.bytes,
        descriptor,
    })
}
