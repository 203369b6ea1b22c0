//! Creating a process and following it to its `execve`.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::{At, LaunchError, Stage};
use super::report::{self, Reporter};
use crate::sys::process::{Child, fork_beside, fork_into};

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
/// it has, or with the failure that it reported.
pub(super) fn spawn(
    birth: &Birth<'_>,
    cgroup: Option<BorrowedFd<'_>>,
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
    let outcome = reports.map(report::Reports::outcome).transpose();
    match outcome {
        Ok(outcome) => {
            let outcome = outcome.unwrap_or_default();
            Ok(Launched {
                pid: child.pid,
                pidfd: child.pidfd,
                console: outcome.console,
                warnings: outcome.warnings,
            })
        }
        Err(error) => {
            reap(&child);
            Err(error)
        }
    }
}

/// Waits for a child that has failed, which has ended or is about to.
fn reap(child: &Child) {
    let wait = || waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED);
    while wait() == Err(Errno::EINTR) {}
}
