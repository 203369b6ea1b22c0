//! Creating a process and following it to its `execve`.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::{At, LaunchError, Stage};
use super::report::{self, Reporter};
use crate::sys::process::{Child, fork_beside, fork_into, pidfd_signal};

/// A process that runs its command. The caller is its parent and must wait
/// for it.
#[derive(Debug)]
pub struct Launched {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// Close-on-exec.
    pub pidfd: OwnedFd,
    /// Master of its terminal, where it has one.
    pub console: Option<OwnedFd>,
    /// What the machine could not do, one line each.
    pub warnings: Vec<String>,
}

/// Where a process is born.
pub(super) enum Birth<'a> {
    /// In namespaces of its own.
    In(CloneFlags),
    /// In the PID namespace of a process.
    Beside(BorrowedFd<'a>),
}

/// Runs `body` in a new process, which is to end in `execve`, and returns once
/// it has, or with the failure that it reported. Meanwhile the caller does what `attend`
/// says for the process, and what the user should know of it is returned with the rest.
pub(super) fn spawn(
    birth: &Birth<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    attend: impl FnOnce(Pid) -> Result<Vec<String>, LaunchError>,
    body: impl FnOnce(&Reporter) -> Result<Infallible, LaunchError>,
) -> Result<Launched, LaunchError> {
    let (reporter, reports) = report::channel().at(Stage::Clone, || "make a channel")?;
    // Each side lets go of its copy of the other's end, or it would not notice
    // the other's death.
    let mut reports = Some(reports);
    let run = || {
        drop(reports.take());
        match body(&reporter) {
            Ok(never) => match never {},
            Err(error) => {
                reporter.failed(&error);
                error.exit_code()
            }
        }
    };
    let child = match birth {
        Birth::In(namespaces) => fork_into(*namespaces, cgroup, run)
            .at(Stage::Clone, || "create the container's process"),
        Birth::Beside(member) => fork_beside(*member, cgroup, run)
            .at(Stage::Join, || "create a process in the container"),
    }?;
    drop(reporter);
    let outcome = || {
        let mut warnings = attend(child.pid)?;
        let outcome = reports.map(report::Reports::outcome).transpose()?;
        let mut outcome = outcome.unwrap_or_default();
        warnings.append(&mut outcome.warnings);
        Ok((outcome.handed, warnings))
    };
    match outcome() {
        Ok((console, warnings)) => Ok(Launched {
            pid: child.pid,
            pidfd: child.pidfd,
            console,
            warnings,
        }),
        Err(error) => {
            // Waiting for what does not come, if it has not failed itself.
            let _ = pidfd_signal(child.pidfd.as_fd(), libc::SIGKILL);
            reap(&child);
            Err(error)
        }
    }
}

/// Runs `body` in a new process with new `namespaces`, which is to hand a descriptor
/// over and to end. Its parent is single-threaded, as always here.
pub(super) fn in_between(
    namespaces: CloneFlags,
    body: impl FnOnce(&Reporter) -> Result<Infallible, LaunchError>,
) -> Result<OwnedFd, LaunchError> {
    let nothing = |_| Ok(Vec::new());
    let launched = spawn(&Birth::In(namespaces), None, nothing, body)?;
    reap(&Child {
        pid: launched.pid,
        pidfd: launched.pidfd,
    });
    let none = || LaunchError::new(Stage::Root, "a process in between handed nothing over");
    launched.console.ok_or_else(none)
}

/// Waits for a child that has failed, which has ended or is about to.
fn reap(child: &Child) {
    let wait = || waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED);
    while wait() == Err(Errno::EINTR) {}
}
