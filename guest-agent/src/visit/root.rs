//! A container's root as a descriptor.
//!
//! Nothing is mounted where anybody could see it, and no process is needed:
//!
//! - A running container's root is opened by a thread that joins its mount
//!   namespace for the moment. What is mounted in there stays reachable by way
//!   of the descriptor. The same thread can take a copy of the root mount
//!   alone, without what is mounted on it.
//! - Of an ended one the overlay is mounted anew, attached nowhere: it is gone
//!   with its descriptor. To read, the container's changes are one more lower
//!   layer, so any number of readers is safe.
//!
//! An ended container cannot start while its root is held (its lock is shared
//! with the holders), and only one holder may write.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use isolazi_protocol::ContainerId;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Pid, Uid, setfsgid, setfsuid};

use super::VisitError;
use crate::container::ContainerDir;
use crate::launch::plan::{RootfsPlan, StoredIds, UsernsPlan};
use crate::rootfs::assemble::{Layers, assemble};
use crate::sys::caps;
use crate::sys::mount::clone_tree;
use crate::sys::process::{pidfd_open, pidfd_signal};

/// How long to wait for a container that is just starting or ending, or that
/// another command copies into.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What the root is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Looking, also at what is mounted in a running container.
    Read,
    /// Changing something.
    Write,
    /// Looking at the root file system only.
    Bare,
}

/// A container's root, held.
#[derive(Debug)]
pub struct ContainerRoot {
    fd: OwnedFd,
    ids: Option<UsernsPlan>,
    _held: Vec<File>,
}

impl ContainerRoot {
    /// Opens the root of the container in `dir`. Blocks.
    pub fn open(dir: &ContainerDir, purpose: Purpose) -> Result<Self, VisitError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(root) = try_open(dir, purpose)? {
                return Ok(root);
            }
            if Instant::now() > deadline {
                return Err(VisitError::Busy(short_id(dir)));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The root itself, open as a place only.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The container's ids, where files in the root are seen with those that they are
    /// mapped to.
    pub fn ids(&self) -> Option<&UsernsPlan> {
        self.ids.as_ref()
    }
}

/// The id as people see it.
pub(super) fn short_id(dir: &ContainerDir) -> String {
    let name = dir.path().file_name().unwrap_or_default();
    name.to_string_lossy()
        .chars()
        .take(ContainerId::SHORT)
        .collect()
}

/// `None` where the container is between two states.
fn try_open(dir: &ContainerDir, purpose: Purpose) -> Result<Option<ContainerRoot>, VisitError> {
    let failed = |action| VisitError::io(action, short_id(dir).as_bytes());
    let state = dir.state().map_err(failed("read the state of"))?;
    if let Some(pid) = state.pid() {
        let Some(init) = first_process(dir, pid)? else {
            return Ok(None);
        };
        let record = dir.record().map_err(failed("read the configuration of"))?;
        let mut ids = record.userns.filter(|it| it.stored != StoredIds::Same);
        let fd = match join(init.as_fd(), purpose == Purpose::Bare) {
            // Mounts of a user namespace cannot be taken apart.
            Err(Errno::EINVAL) if purpose == Purpose::Bare => {
                ids = ids.filter(UsernsPlan::is_mapped_on_disk);
                read_only(dir)?
            }
            Err(Errno::ESRCH) => return Ok(None),
            other => other.map_err(|errno| failed("enter")(errno.into()))?,
        };
        return Ok(Some(ContainerRoot {
            fd,
            ids,
            _held: Vec::new(),
        }));
    }
    let Some(held) = hold(dir, purpose).map_err(failed("lock"))? else {
        return Ok(None);
    };
    let fd = match purpose {
        Purpose::Write => writable(dir)?,
        Purpose::Read | Purpose::Bare => read_only(dir)?,
    };
    let record = dir.record().map_err(failed("read the configuration of"))?;
    Ok(Some(ContainerRoot {
        fd,
        ids: record.userns.filter(UsernsPlan::is_mapped_on_disk),
        _held: held,
    }))
}

/// The first process of a running container, for certain; `None` where it has
/// just ended.
pub(super) fn first_process(dir: &ContainerDir, pid: i32) -> Result<Option<OwnedFd>, VisitError> {
    let failed = |action| VisitError::io(action, short_id(dir).as_bytes());
    let init = match pidfd_open(Pid::from_raw(pid)) {
        Err(Errno::ESRCH) => return Ok(None),
        other => other.map_err(|errno| failed("find the process of")(errno.into()))?,
    };
    // The number was its own when the descriptor was made if it is now.
    let state = dir.state().map_err(failed("read the state of"))?;
    let same = state.pid() == Some(pid);
    let lives = pidfd_signal(init.as_fd(), 0).is_ok();
    Ok((same && lives).then_some(init))
}

/// Opens the root of a process's mount namespace, wherever the process itself
/// has gone; `alone` is a copy without what is mounted on it.
fn join(init: BorrowedFd<'_>, alone: bool) -> Result<OwnedFd, Errno> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_FS)?;
        setns(init, CloneFlags::CLONE_NEWNS)?;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let root = openat2(AT_FDCWD, c"/", how)?;
        match alone {
            true => clone_tree(root.as_fd(), c"", false),
            false => Ok(root),
        }
    })
}

/// Runs what changes the calling thread for good.
fn on_own_thread<T: Send>(body: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, body);
        let thread = thread.map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EIO))
    })
}

/// Runs what makes files as root of a container with these ids: where they are mapped,
/// no others can own any. It keeps the powers of this process.
pub(super) fn as_root_of<T: Send>(
    ids: &UsernsPlan,
    body: impl FnOnce() -> Result<T, VisitError> + Send,
) -> Result<T, VisitError> {
    let (user, group) = ids.root();
    let done = on_own_thread(|| {
        let all = caps::permitted()?;
        setfsgid(Gid::from_raw(group));
        // Takes what root may do with files out of the effective set.
        setfsuid(Uid::from_raw(user));
        caps::set_permitted(all)?;
        Ok(body())
    });
    done.map_err(|errno| VisitError::io("write as root of", b"the container")(errno.into()))?
}

/// Keeps an ended container from starting, and others from changing it.
fn hold(dir: &ContainerDir, purpose: Purpose) -> io::Result<Option<Vec<File>>> {
    let Some(life) = lock(dir, "lock", false)? else {
        return Ok(None);
    };
    let Some(changes) = lock(dir, "changes.lock", purpose == Purpose::Write)? else {
        return Ok(None);
    };
    Ok(Some(vec![life, changes]))
}

fn lock(dir: &ContainerDir, name: &str, exclusive: bool) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.path().join(name))?;
    let locked = match exclusive {
        true => file.try_lock(),
        false => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_only(dir: &ContainerDir) -> Result<OwnedFd, VisitError> {
    with_plan(dir, |plan| {
        let lower = std::iter::once(&plan.upper).chain(&plan.lower);
        assemble(&Layers {
            lower: lower.map(AsRef::as_ref).collect(),
            changes: None,
            mount_point: &plan.mount_point,
        })
    })
}

fn writable(dir: &ContainerDir) -> Result<OwnedFd, VisitError> {
    with_plan(dir, |plan| {
        assemble(&Layers {
            lower: plan.lower.iter().map(AsRef::as_ref).collect(),
            changes: Some((&plan.upper, &plan.work)),
            mount_point: &plan.mount_point,
        })
    })
}

/// The root of the container's image, as it was.
pub(super) fn image(dir: &ContainerDir) -> Result<OwnedFd, VisitError> {
    with_plan(dir, |plan| {
        assemble(&Layers {
            lower: plan.lower.iter().map(AsRef::as_ref).collect(),
            changes: None,
            mount_point: &plan.mount_point,
        })
    })
}

/// The folder of the container's changes.
pub(super) fn upper(dir: &ContainerDir) -> Result<OwnedFd, VisitError> {
    with_plan(dir, |plan| crate::sys::fs::open_dir(&plan.upper))
}

fn with_plan(
    dir: &ContainerDir,
    assemble: impl FnOnce(&RootfsPlan) -> io::Result<OwnedFd>,
) -> Result<OwnedFd, VisitError> {
    let failed = |action| VisitError::io(action, short_id(dir).as_bytes());
    let plan = dir.plan().map_err(failed("read the plan of"))?;
    assemble(&plan.rootfs).map_err(failed("assemble the root of"))
}
