//! The process that holds the namespaces while nobody else does.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{getpid, setsid};

use super::lock::try_lock;
use super::record::{Identity, Record};
use crate::sys::process::{CloseRange, close_range, pidfd_open};

/// How it is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-keeper";

/// Commands often come one after the other.
const GRACE: Duration = Duration::from_secs(5);

/// Starts a keeper of the caller's own namespaces.
pub(super) fn start(root: &Path) -> std::io::Result<i32> {
    let keeper = Command::new("/proc/self/exe")
        .arg0(ARGV0)
        .arg(root)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(keeper.id().cast_signed())
}

/// Waits until nobody else is in its namespaces.
pub(super) fn run(mut words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(root) = words.next().map(PathBuf::from) else {
        return ExitCode::FAILURE;
    };
    // It outlives whatever it was started from.
    let _ = setsid();
    let _ = close_range(3, CloseRange::Now);
    let Some(own) = Identity::of("self") else {
        return ExitCode::FAILURE;
    };
    let mut known = None;
    loop {
        while let Some(other) = own.somebody(&[getpid()]) {
            // Gone already, or to be waited for.
            if let Ok(process) = pidfd_open(other) {
                let ended = PollFd::new(process.as_fd(), PollFlags::POLLIN);
                let _ = poll(&mut [ended], PollTimeout::NONE);
            }
        }
        known = Record::read(&root).or(known);
        std::thread::sleep(GRACE);
        let lock = match try_lock(&root) {
            // Somebody is entering, or just about to be here.
            Ok(None) => continue,
            Ok(lock) => lock,
            // With the data root the way in is gone, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => continue,
        };
        if own.somebody(&[getpid()]).is_none() {
            known.iter().for_each(end_network);
            // Whoever comes next makes new namespaces.
            drop(lock);
            return ExitCode::SUCCESS;
        }
    }
}

/// Ends the connection to the host's network, if it still runs.
pub(super) fn end_network(record: &Record) {
    if let Some(network) = record.network.filter(|it| it.is_alive()) {
        let _ = kill(network.pid(), Signal::SIGTERM);
    }
}
