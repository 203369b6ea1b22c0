//! The host's raw system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

nix::ioctl_read_bad!(get_winsize, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Rows and columns of a terminal (TIOCGWINSZ, ioctl_tty(2)); `None` where
/// the descriptor is no terminal, or one without a size.
pub(crate) fn window_size(terminal: &impl AsFd) -> Option<(u16, u16)> {
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ fills in one `struct winsize`, which `size` is.
    unsafe { get_winsize(terminal.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A descriptor that means this process, whoever gets its id later
/// (pidfd_open(2)).
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let descriptor = nix::errno::Errno::result(result)? as i32;
    // SAFETY: a descriptor that has just been made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has the runtime tell when the descriptor becomes readable.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is open, and the same one, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Sends SIGKILL to the process that the descriptor means (pidfd_send_signal(2)).
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_kill(process: &impl AsFd) -> io::Result<()> {
    let result = {
        let (descriptor, signal) = (process.as_fd().as_raw_fd(), nix::libc::SIGKILL);
        let no_info = std::ptr::null::<nix::libc::siginfo_t>();
        let call = nix::libc::SYS_pidfd_send_signal;
        // SAFETY: without a `siginfo_t` the call takes numbers only.
        unsafe { nix::libc::syscall(call, descriptor, signal, no_info, 0) }
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Has the kernel send SIGKILL to the command's process when the thread that
/// started it ends (PR_SET_PDEATHSIG, prctl(2)).
#[cfg(target_os = "linux")]
pub(crate) fn kill_with_parent(command: &mut tokio::process::Command) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        // It may have ended before the call above.
        match nix::unistd::getppid() == parent {
            true => Ok(()),
            false => Err(nix::errno::Errno::ESRCH.into()),
        }
    };
    // SAFETY: the closure makes two system calls and touches no memory that a
    // lock of the parent could guard, as a child of a fork must (fork(2)).
    unsafe { command.pre_exec(before_exec) };
}
