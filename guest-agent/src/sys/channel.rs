//! Sockets that keep messages apart and may carry a descriptor with one:
//! unix(7), `SOCK_SEQPACKET` and `SCM_RIGHTS`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, setsockopt, socket,
    socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Uid;

/// So many callers may wait to be accepted.
const BACKLOG: i32 = 128;

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

/// A socket that is called by its path, which must be free and shorter than 108
/// bytes.
pub fn listen_at(path: &Path) -> Result<OwnedFd, Errno> {
    let listener = unconnected()?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

/// Calls whoever listens at `path`.
pub fn call(path: &Path) -> Result<OwnedFd, Errno> {
    let caller = unconnected()?;
    connect(caller.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(caller)
}

fn unconnected() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Waits for the next caller.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// Who is at the other end, or was when it connected.
pub fn peer(socket: BorrowedFd<'_>) -> Result<Uid, Errno> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Uid::from_raw(credentials.uid()))
}

/// Has whatever waits for the other end fail with `EAGAIN` after this.
pub fn set_patience(socket: BorrowedFd<'_>, patience: Duration) -> Result<(), Errno> {
    let milliseconds = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    let limit = TimeVal::milliseconds(milliseconds);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit)
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
