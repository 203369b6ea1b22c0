//! One thing below a root, looked at and held.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{
    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs,
};

use crate::sys::fs;

/// devpts: its files are terminals.
const DEVPTS_MAGIC: FsType = FsType(libc::DEVPTS_SUPER_MAGIC as _);
/// Message queues.
const MQUEUE_MAGIC: FsType = FsType(0x1980_0202);

/// A file, folder or anything else: the same one from look to use.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the root; empty is the root itself.
    pub(super) path: Vec<u8>,
    fd: OwnedFd,
    pub(super) stat: FileStat,
}

impl Entry {
    /// What is at `path`, on which there is no symbolic link.
    pub(super) fn open(
        root: BorrowedFd<'_>,
        path: &[u8],
        further: ResolveFlag,
    ) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let further = further | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let fd = fs::open_in_root(root, path, flags, further)?;
        Ok(Self {
            stat: fstat(&fd)?,
            path: path.to_vec(),
            fd,
        })
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/');
        &self.path[start.map_or(0, |slash| slash + 1)..]
    }

    pub(super) fn is_folder(&self) -> bool {
        fs::is_dir(&self.stat)
    }

    /// Whether it belongs to a file system that shows the kernel's state.
    pub(super) fn is_kernels(&self) -> io::Result<bool> {
        is_kernels(self.fd.as_fd())
    }

    /// The names in a folder, sorted.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = fs::list_dir(self.fd.as_fd())?;
        names.sort_unstable();
        Ok(names)
    }

    /// The content of an ordinary file, which alone may be asked for: opening
    /// a pipe waits, and opening a device acts on it.
    pub(super) fn content(&self) -> io::Result<File> {
        File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether something belongs to a file system that shows the kernel's state.
pub(super) fn is_kernels(place: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = fstatfs(place)?.filesystem_type();
    let kernels = [
        PROC_SUPER_MAGIC,
        SYSFS_MAGIC,
        CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC,
        DEVPTS_MAGIC,
        MQUEUE_MAGIC,
    ];
    Ok(kernels.contains(&kind))
}
