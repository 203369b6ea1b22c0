//! What Unix systems have in common: their terminals.

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
