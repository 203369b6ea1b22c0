//! What is shown in the container from outside: the user's `-v`, and the
//! files of its folder below `/etc`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::fstat;

use isolazi_protocol::{BindRecursion, Propagation};

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::plan::{BindPlan, EtcFile};
use crate::launch::resolve::{Kind, Root, is_proc};
use crate::sys::mount::{MountFlags, Sharing, attach, clone_tree, restrict, share};

/// Devices reach a container as devices, not as part of a folder.
const ALWAYS: MountFlags = MountFlags::NO_DEV_SUID;

/// Takes a file that is shown below `/etc`.
pub(super) fn take_etc(file: &EtcFile, read_only: bool) -> Result<Source, LaunchError> {
    copy_of(&file.source, true)
        .and_then(|taken| restrict(taken.as_fd(), flags(read_only), true).map(|()| taken))
        .at(Stage::Binds, || {
            format!("take {} for a mount", file.source.display())
        })
}

/// Shows it there.
pub(super) fn etc_file(root: &Root, file: &EtcFile, taken: &Source) -> Result<(), LaunchError> {
    let target = Path::new("/etc").join(&file.name);
    put(root, taken, &file.source, &target)
}

fn flags(read_only: bool) -> MountFlags {
    match read_only {
        true => ALWAYS | MountFlags::READ_ONLY,
        false => ALWAYS,
    }
}

/// A copy of what is to be mounted, attached nowhere.
#[derive(Debug)]
pub(in crate::launch) struct Source {
    tree: OwnedFd,
    kind: Kind,
}

impl Source {
    pub(super) fn new(tree: OwnedFd) -> Result<Self, Errno> {
        let kind = match fstat(&tree)?.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Kind::Folder,
            _ => Kind::File,
        };
        Ok(Self { tree, kind })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }
}

/// Takes the source of one `-v`. One that is to be shared has to be taken while
/// it still is, in the namespace of the caller.
pub(super) fn take(request: &BindPlan) -> Result<Source, LaunchError> {
    copy_as_asked(request).at(Stage::Binds, || {
        format!("take {} for a mount", request.source.display())
    })
}

fn copy_as_asked(request: &BindPlan) -> Result<Source, Errno> {
    let recursive = request.recursion != BindRecursion::Disabled;
    let taken = copy_of(&request.source, recursive)?;
    let tree = taken.tree.as_fd();
    restrict(tree, ALWAYS, true)?;
    if request.read_only {
        let all = request.recursion != BindRecursion::Writable;
        restrict(tree, MountFlags::READ_ONLY, all)?;
    }
    match request.propagation {
        Propagation::RPrivate | Propagation::Private => share(tree, Sharing::Private, true)?,
        // Below a slave nothing is to lead out, either.
        Propagation::RSlave | Propagation::Slave => share(tree, Sharing::Slave, true)?,
        Propagation::RShared => share(tree, Sharing::Shared, true)?,
        Propagation::Shared => share(tree, Sharing::Shared, false)?,
    }
    Ok(taken)
}

/// Mounts what was taken for one `-v`.
pub(super) fn user(root: &Root, request: &BindPlan, taken: &Source) -> Result<(), LaunchError> {
    put(root, taken, &request.source, &request.target)
}

fn put(root: &Root, taken: &Source, source: &Path, target: &Path) -> Result<(), LaunchError> {
    let place = place_for(root, target, taken.kind)?;
    attach(taken.tree.as_fd(), place.as_fd()).at(Stage::Binds, || {
        format!("mount {} at {}", source.display(), target.display())
    })
}

/// Where to mount what the user asks for.
pub(super) fn place_for(root: &Root, target: &Path, kind: Kind) -> Result<OwnedFd, LaunchError> {
    let place = root.ensure(target, kind).at(Stage::Binds, || {
        format!("make the mount's target {}", target.display())
    })?;
    if is_same(place.as_fd(), root.as_fd()) {
        return Err(refused(target, "it is the container's own root"));
    }
    if is_proc(place.as_fd()) {
        return Err(refused(target, "nothing may be mounted below /proc"));
    }
    Ok(place)
}

/// A copy of the mount at `source`, attached nowhere.
fn copy_of(source: &Path, recursive: bool) -> Result<Source, Errno> {
    let path = CString::new(source.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    Source::new(clone_tree(AT_FDCWD, &path, recursive)?)
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let identity = |fd| fstat(fd).map(|status| (status.st_dev, status.st_ino));
    identity(one) == identity(other)
}

fn refused(target: &Path, why: &str) -> LaunchError {
    let target = target.display();
    LaunchError::new(
        Stage::Binds,
        format!("cannot mount at {target}: {why}; choose another target"),
    )
}
