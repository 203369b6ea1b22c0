//! Pseudo-terminals: pty(7), ioctl_tty(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// The two ends of a new pseudo-terminal, close-on-exec.
#[derive(Debug)]
pub struct Pty {
    /// The end of the one who watches.
    pub master: OwnedFd,
    /// The terminal.
    pub slave: OwnedFd,
    /// Its name in the devpts instance: the N of `/dev/pts/N`.
    pub index: u32,
}

/// Unlocks the terminal of `master`, an open `ptmx`, and opens it through the
/// master, without looking any path up.
pub fn open_slave(master: OwnedFd) -> Result<Pty, Errno> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one integer.
    Errno::result(unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCSPTLCK as _,
            &raw const unlocked,
        )
    })?;
    let mut index: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned integer.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut index) })?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer.
    let slave = Errno::result(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags.bits())
    })?;
    Ok(Pty {
        master,
        // SAFETY: the call succeeded, so this is a new descriptor nothing else owns.
        slave: unsafe { OwnedFd::from_raw_fd(slave as RawFd) },
        index,
    })
}

/// Sets a terminal's size in characters.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) };
    Errno::result(done).map(drop)
}

/// Makes a terminal the controlling one of the caller's session, of which the
/// caller must be the leader.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer; 0 does not steal the terminal.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Errno::result(done).map(drop)
}
