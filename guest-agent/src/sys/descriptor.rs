//! File descriptors that cross process boundaries.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Receives one descriptor sent with SCM_RIGHTS (unix(7)) and the byte it
/// came with. It is close-on-exec.
///
/// # Errors
/// `UnexpectedEof` when the peer closed, `InvalidData` when no descriptor came.
pub fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut payload = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut payload, Some(&mut space), flags)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let received = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let raw = received.ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just installed `raw` in this process for this
    // message, whose buffer has room for one descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Closes every descriptor from `first` on, except `kept`.
///
/// Only for a process that has just started and owns none of them yet.
pub fn close_from(first: RawFd, kept: RawFd) -> io::Result<()> {
    let ranges = [(first, kept - 1), (kept.max(first - 1) + 1, RawFd::MAX)];
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        // SAFETY: close_range(2) takes plain numbers. That no owned descriptor
        // is among them is the condition of this function.
        let result = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, from, to, 0) };
        nix::errno::Errno::result(result)?;
    }
    Ok(())
}

/// Sends `signal` to the process behind `pidfd` (pidfd_send_signal(2)).
pub fn signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let descriptor = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<nix::libc::siginfo_t>();
    // SAFETY: the descriptor is open for the duration of the call, and a null
    // siginfo asks the kernel to fill in its own.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            descriptor,
            signal,
            info,
            0,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Sets the size of the terminal behind `master` (TIOCSWINSZ, ioctl_tty(2)).
pub fn set_window_size(master: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    nix::ioctl_write_ptr_bad!(set_winsize, nix::libc::TIOCSWINSZ, nix::pty::Winsize);
    let size = nix::pty::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `struct winsize`, which `size` is.
    unsafe { set_winsize(master.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}
