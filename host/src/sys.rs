//! The host's raw system calls.

use std::os::fd::{AsFd, AsRawFd};

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
