//! Descriptors whose readiness a runtime watches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `descriptor` with the current runtime.
///
/// # Errors
/// When the descriptor cannot be polled (epoll_ctl(2)).
///
/// # Panics
/// Outside a runtime with I/O enabled.
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stands for the same open descriptor from here until
    // it is dropped, and `AsyncFd` deregisters it before that.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    Ok(watched?)
}
