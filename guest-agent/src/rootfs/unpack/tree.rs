//! The folder that a layer is unpacked into.
//!
//! Every path is resolved by the kernel with the folder as its root, once, to
//! the folder that holds the last name; all else is done by that descriptor
//! and the bare name. So a link in the layer may lead anywhere in the layer,
//! and nowhere else.
//!
//! The folder last used stays open: most entries follow their siblings. Its
//! time stamp is put back when another takes its place, because making
//! something in it has changed it; thus the times of folders are right at the
//! end without a list of them that a hostile archive could make endless.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, futimens, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::sys::time::TimeSpec;

use crate::rootfs::remove::remove_at;
use crate::sys::fs;

use super::OverlayXattrs;

/// What the tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A new folder, which becomes a layer.
    Layer(OverlayXattrs),
    /// A container's root, whose folders were there before and stay.
    Copy,
}

impl Manner {
    /// Opens a folder of the tree.
    pub(super) fn open_dir(self, root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
        match self {
            Self::Layer(_) => fs::open_dir_in_root(root, path),
            Self::Copy => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                let folder = fs::open_in_root(root, path, flags, ResolveFlag::empty())?;
                // What can be written there acts on the kernel, not on files.
                match fstatfs(&folder)?.filesystem_type() {
                    PROC_SUPER_MAGIC | SYSFS_MAGIC => Err(Errno::EPERM.into()),
                    _ => Ok(folder),
                }
            }
        }
    }

    fn make_opaque(self, dir: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Layer(xattrs) => fs::set_xattr(dir, xattrs.opaque(), b"y"),
            Self::Copy => Ok(()),
        }
    }
}

/// Mode of folders that no entry describes.
const IMPLIED_MODE: Mode = Mode::from_bits_truncate(0o755);

/// An open folder of the layer.
pub(super) struct Folder {
    path: Vec<u8>,
    fd: OwnedFd,
    mtime: TimeSpec,
    manner: Manner,
    /// The folder that is copied into tells by its time that it has changed.
    keeps_time: bool,
    set_group_id: bool,
    touched: Cell<bool>,
    stale: Cell<bool>,
}

impl Folder {
    fn new(path: &[u8], fd: OwnedFd, manner: Manner) -> io::Result<Self> {
        let stat = fstat(&fd)?;
        Ok(Self {
            path: path.to_vec(),
            fd,
            mtime: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
            manner,
            keeps_time: true,
            set_group_id: stat.st_mode & libc::S_ISGID != 0,
            touched: Cell::new(false),
            stale: Cell::new(false),
        })
    }

    /// Whether what is made in it gets the folder's group instead of ours.
    pub(super) fn gives_its_group(&self) -> bool {
        self.set_group_id
    }

    /// To name something in it that is about to change.
    pub(super) fn change(&self) -> BorrowedFd<'_> {
        self.touched.set(true);
        self.fd.as_fd()
    }

    fn restore_time(&self) -> io::Result<()> {
        if self.touched.get() && self.keeps_time {
            futimens(&self.fd, &self.mtime, &self.mtime)?;
        }
        Ok(())
    }

    /// Removes `name` with all in it.
    fn remove(&self, name: &[u8]) -> io::Result<()> {
        // The path of this very folder may have led through it.
        self.stale.set(true);
        remove_at(self.change(), name)
    }

    /// Makes something called `name`, in the place of what has that name.
    pub(super) fn replace<T>(
        &self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match make(self.change()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                if self.manner == Manner::Copy && fs::is_dir(&fs::stat_at(self.fd.as_fd(), name)?) {
                    return Err(Errno::EISDIR.into());
                }
                self.remove(name)?;
                make(self.change())
            }
            result => result,
        }
    }

    /// The folder `name`, made if there is none, in the place of anything else
    /// of that name. One that replaces a whiteout must go on hiding what the
    /// whiteout hid.
    pub(super) fn make_dir(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let dir = self.change();
        let mut opaque = false;
        if let Err(error) = mkdirat(dir, name, Mode::S_IRWXU) {
            if error != Errno::EEXIST {
                return Err(error.into());
            }
            let stat = fs::stat_at(dir, name)?;
            if !fs::is_dir(&stat) {
                if self.manner == Manner::Copy {
                    return Err(Errno::ENOTDIR.into());
                }
                opaque = fs::is_whiteout(&stat);
                self.remove(name)?;
                mkdirat(dir, name, Mode::S_IRWXU)?;
            }
        }
        let made = fs::open_dir_at(dir, name)?;
        if opaque {
            self.manner.make_opaque(made.as_fd())?;
        }
        Ok(made)
    }

    /// Makes the folder `name`, which no entry has described.
    fn imply(&self, name: &[u8]) -> io::Result<OwnedFd> {
        if let Ok(stat) = fs::stat_at(self.fd.as_fd(), name)
            && !fs::is_whiteout(&stat)
        {
            return Err(Errno::ENOTDIR.into());
        }
        let made = self.make_dir(name)?;
        fchmod(&made, IMPLIED_MODE)?;
        self.restore_time()?;
        Ok(made)
    }

    /// Hides what the layers below have under `name`. What this layer has of
    /// that name stays, as the image-spec wants it, and hides it as well.
    pub(super) fn hide(&self, name: &[u8]) -> io::Result<()> {
        let dir = self.change();
        match mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0) {
            Err(Errno::EEXIST) => {}
            result => return Ok(result?),
        }
        match fs::open_dir_at(dir, name) {
            Ok(made) => self.manner.make_opaque(made.as_fd()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hides all that the layers below have in this folder.
    pub(super) fn hide_below(&self) -> io::Result<()> {
        self.manner.make_opaque(self.fd.as_fd())
    }
}

/// Nothing of that name, or nothing that is a folder.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The layer's content as it grows.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    current: Option<Folder>,
    manner: Manner,
    /// The folder that is copied into.
    below: Vec<u8>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, manner: Manner) -> Self {
        Self {
            root,
            current: None,
            manner,
            below: Vec::new(),
        }
    }

    /// Names the folder that is copied into.
    pub(super) fn set_below(&mut self, below: &[u8]) {
        self.below = below.to_vec();
    }

    /// The folder `path`, made with all above it where it is missing.
    pub(super) fn folder(&mut self, path: &[u8]) -> io::Result<&Folder> {
        let folder = match self.current.take() {
            Some(folder) if folder.path == path && !folder.stale.get() => folder,
            previous => {
                previous.map_or(Ok(()), |folder| folder.restore_time())?;
                self.open(path)?
            }
        };
        Ok(self.current.insert(folder))
    }

    /// Whether `path` leads through something of this layer that is neither
    /// a folder nor a link to one.
    pub(super) fn is_below_a_file(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = ends.map(|(end, _)| end).chain([path.len()]);
        ends.into_iter().any(|end| {
            let (above, name) = match path[..end].iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (&path[..slash], &path[slash + 1..end]),
                None => (&path[..0], &path[..end]),
            };
            let found = self
                .manner
                .open_dir(self.root, above)
                .and_then(|above| fs::stat_at(above.as_fd(), name));
            found.is_ok_and(|stat| {
                !fs::is_dir(&stat) && !fs::is_link(&stat) && !fs::is_whiteout(&stat)
            })
        })
    }

    /// Closes the folder last used, so that its times are right.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        match self.current.take() {
            Some(folder) => folder.restore_time(),
            None => Ok(()),
        }
    }

    fn open(&self, path: &[u8]) -> io::Result<Folder> {
        let fd = match self.manner.open_dir(self.root, path) {
            Err(error) if is_missing(&error) => self.make_path(path)?,
            result => result?,
        };
        let mut folder = Folder::new(path, fd, self.manner)?;
        folder.keeps_time = self.manner != Manner::Copy || path != self.below;
        Ok(folder)
    }

    /// Makes the folders of `path` that are missing.
    fn make_path(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut fd = fs::open_dir_at(self.root, b".")?;
        let mut end = 0;
        for name in path.split(|byte| *byte == b'/') {
            end += name.len();
            fd = self.step(fd, &path[..end], name)?;
            end += 1;
        }
        Ok(fd)
    }

    /// From the folder `above` to `name` in it, which together are `path`.
    fn step(&self, above: OwnedFd, path: &[u8], name: &[u8]) -> io::Result<OwnedFd> {
        match fs::open_dir_at(above.as_fd(), name) {
            Err(error) if is_missing(&error) => {}
            result => return result,
        }
        // A link to a folder is as good as the folder.
        match self.manner.open_dir(self.root, path) {
            Err(error) if is_missing(&error) => Folder::new(b"", above, self.manner)?.imply(name),
            result => result,
        }
    }
}
