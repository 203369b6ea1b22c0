//! This program's own executable, in a form that a container cannot overwrite.
//!
//! Between `clone` and `execve` a container's process still is this program,
//! so an image whose entrypoint leads to `/proc/self/exe` runs it and gets hold
//! of the file (CVE-2019-5736). Everything that forks into a container is
//! therefore started from a detached read-only mount of the executable: no
//! path leads to it, and writing through it fails with EROFS. Unlike a copy in
//! memory it costs microseconds, and its pages are shared.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;

/// An executable that can be started by its path as long as this value lives.
#[derive(Debug)]
pub struct Executable(OwnedFd);

impl Executable {
    /// A path that leads to it in this process.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The running executable, through a read-only mount of its own.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_ADMIN, which mounting needs.
pub fn read_only_self() -> io::Result<Executable> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a NUL-terminated literal; the result is checked
    // before it is used as a descriptor.
    let raw = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            c"/proc/self/exe".as_ptr(),
            flags,
        )
    })?;
    // SAFETY: open_tree(2) has just returned this descriptor to us alone.
    let mount = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    let read_only = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open, the path is a literal, and the structure
    // is as long as the size that is passed with it.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const read_only,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(Executable(mount))
}
