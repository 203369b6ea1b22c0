//! Ending and removing a container's cgroup.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::place;
use crate::sys::process::{pidfd_open, pidfd_signal};

/// How long processes that were killed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup that is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the cgroup {}; remove it with rmdir once its processes have ended", folder.display())]
pub struct RemoveError {
    /// The group.
    pub folder: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Kills whatever is left in the groups named `path`, and removes them. Goes
/// on after a failure and returns them all. Groups that are gone are fine.
pub fn remove(path: &str) -> Vec<RemoveError> {
    let mut hierarchies = place::find(path);
    // First where one write ends every process, and then where none can fork
    // meanwhile; the others are empty by then.
    hierarchies.sort_by_key(|it| (!it.is_unified(), !it.controls("freezer")));
    let folders = hierarchies.into_iter().map(|it| it.folder);
    folders
        .filter_map(|folder| match remove_folder(&folder) {
            Ok(()) => None,
            Err(source) => Some(RemoveError { folder, source }),
        })
        .collect()
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is_in_use(&error) && Instant::now() < deadline => {}
            other => return other,
        }
        place::folders_in(folder)
            .iter()
            .try_for_each(|below| remove_folder(below))?;
        end_processes(folder, deadline)?;
    }
}

fn is_in_use(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EBUSY | Errno::ENOTEMPTY))
}

/// Kills the group's processes and waits until those seen have ended. Where
/// they fork faster than they are seen, the caller's next round finds more;
/// `cgroup.kill` (v2) and the freezer (v1) leave no such gap.
fn end_processes(folder: &Path, deadline: Instant) -> io::Result<()> {
    let freezer = folder.join("freezer.state");
    let frozen = fs::write(&freezer, "FROZEN").is_ok();
    let processes = processes_in(folder)?;
    if fs::write(folder.join("cgroup.kill"), "1").is_err() {
        for process in &processes {
            // One that has ended in the meantime is what we want.
            let _ = pidfd_signal(process.as_fd(), libc::SIGKILL);
        }
    }
    if frozen {
        fs::write(&freezer, "THAWED")?;
    }
    if processes.is_empty() {
        // They have ended, and the kernel is about to notice.
        std::thread::sleep(Duration::from_millis(1));
    }
    processes
        .iter()
        .try_for_each(|process| wait_for_end(process, deadline))
}

fn processes_in(folder: &Path) -> io::Result<Vec<OwnedFd>> {
    let list = fs::read_to_string(folder.join("cgroup.procs"))?;
    let pids = list.lines().filter_map(|line| line.parse().ok());
    // A process of another PID namespace is 0, one that has ended has no pidfd.
    Ok(pids
        .filter(|pid| *pid > 0)
        .filter_map(|pid| pidfd_open(Pid::from_raw(pid)).ok())
        .collect())
}

fn wait_for_end(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
