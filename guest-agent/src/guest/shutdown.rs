//! The end of the guest: first the processes, then the disk, then the power.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::disk;

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end those that were killed.
const KILLED: Duration = Duration::from_secs(5);

/// Asks PID 1 to shut the guest down. Returns at once; this process will soon
/// be terminated.
///
/// # Errors
/// `EPERM` or `ESRCH` where PID 1 cannot be signalled.
pub(super) fn request() -> Result<(), nix::Error> {
    kill(Pid::from_raw(1), Signal::SIGTERM)
}

/// So much later, the answer to whoever asked has left.
const ANSWER_FIRST: Duration = Duration::from_millis(50);

/// Ends this process without any care, after a moment; PID 1 starts another.
/// Must be called within a tokio runtime.
pub(super) fn end_process_soon() {
    tokio::spawn(async {
        tokio::time::sleep(ANSWER_FIRST).await;
        std::process::abort();
    });
}

/// [`request`] after a moment. Must be called within a tokio runtime.
pub(super) fn request_soon() {
    tokio::spawn(async {
        tokio::time::sleep(ANSWER_FIRST).await;
        if let Err(error) = request() {
            eprintln!("isolazi: cannot ask PID 1 to shut down: {error}");
        }
    });
}

/// Ends everything. For PID 1 only.
pub(super) fn power_off() -> ! {
    end_processes(Signal::SIGTERM, GRACE);
    end_processes(Signal::SIGKILL, KILLED);
    disk::unmount_data();
    cut_power()
}

/// Writes out what is left and stops the machine, whatever state it is in.
pub(super) fn cut_power() -> ! {
    nix::unistd::sync();
    // Either call returns only on failure; where a machine cannot power off,
    // the hypervisor is told to treat a reboot as the end.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn end_processes(signal: Signal, patience: Duration) {
    // To every process except PID 1 itself.
    let _ = kill(Pid::from_raw(-1), signal);
    let deadline = Instant::now() + patience;
    while reap() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Collects all ended children; tells whether there are others.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}
