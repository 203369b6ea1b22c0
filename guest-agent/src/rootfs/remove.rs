//! Removes a folder with all that is in it, however deep, without ever
//! following a link or leaving it.
//!
//! A layer may nest folders without end, so neither the stack nor the number
//! of open descriptors may grow with the depth. What is nested is therefore
//! first moved up:
//!
//! ```text
//!  x/a/b/c/…   ─►   x/a, x/.0 (was b), then x/.0, x/.1 (was c), …   ─►   x   ─►   gone
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::fs;

/// Removes `name` from `dir`, whatever it is.
pub(crate) fn remove_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if remove_simple(dir, name)? {
        return Ok(());
    }
    let folder = open_for_removal(dir, name)?;
    empty(folder.as_fd())?;
    Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
}

/// Removes all that is in `folder`.
fn empty(folder: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let names = fs::list_dir(folder)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !remove_simple(folder, &name)? {
                flatten(folder, &name, &mut moved)?;
            }
        }
    }
}

/// Removes `name`, its own folders being moved up into `folder`.
fn flatten(folder: BorrowedFd<'_>, name: &[u8], moved: &mut u64) -> io::Result<()> {
    let inner = open_for_removal(folder, name)?;
    for nested in fs::list_dir(inner.as_fd())? {
        if !remove_simple(inner.as_fd(), &nested)? {
            make_usable(inner.as_fd(), &nested);
            move_up(inner.as_fd(), &nested, folder, moved)?;
        }
    }
    Ok(unlinkat(folder, name, UnlinkatFlags::RemoveDir)?)
}

fn move_up(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        let fresh = format!(".{moved}");
        *moved += 1;
        match renameat(from, name, to, fresh.as_str()) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes a file, a link or an empty folder; `false` where there is a folder
/// with something in it.
fn remove_simple(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder that may forbid it to its owner.
fn open_for_removal(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    make_usable(dir, name);
    fs::open_dir_at(dir, name)
}

/// Gives the owner all permissions. Only needed without CAP_DAC_OVERRIDE, and
/// a failure shows in what comes next.
fn make_usable(dir: BorrowedFd<'_>, name: &[u8]) {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if let Ok(fd) = openat(dir, name, flags, Mode::empty()) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let follow = FchmodatFlags::FollowSymlink;
        let _ = fchmodat(AT_FDCWD, path.as_str(), Mode::S_IRWXU, follow);
    }
}
