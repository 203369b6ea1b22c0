//! The mount interface by descriptors: fsopen(2), fsconfig(2), fsmount(2),
//! open_tree(2), mount_setattr(2), move_mount(2). All of it is in Linux 5.12.
//!
//! ```text
//!  FsContext::open ─ set … ─ mount ─┐
//!                                   ├─► detached mount ─ attach ─► a folder's descriptor
//!  clone_tree (a bind mount) ───────┘         └ restrict
//! ```
//!
//! Nothing here looks a target's path up twice: what is mounted and where are
//! descriptors, so that a path cannot be exchanged in between.

use std::ffi::CStr;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// Restrictions of a mount (`MOUNT_ATTR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountFlags(u64);

impl MountFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const READ_ONLY: Self = Self(0x1);
    /// Ignore set-user-id bits and file capabilities.
    pub const NO_SUID: Self = Self(0x2);
    /// Refuse opening device files.
    pub const NO_DEV: Self = Self(0x4);
    /// Refuse execution.
    pub const NO_EXEC: Self = Self(0x8);
    /// Neither set-user-id nor execution.
    pub const NO_EXEC_SUID: Self = Self(Self::NO_SUID.0 | Self::NO_EXEC.0);
    /// Neither set-user-id nor devices.
    pub const NO_DEV_SUID: Self = Self(Self::NO_SUID.0 | Self::NO_DEV.0);
    /// Update access times on every access.
    pub const STRICT_ATIME: Self = Self(0x20);
    /// Neither set-user-id, devices nor execution.
    pub const DATA_ONLY: Self = Self(Self::NO_SUID.0 | Self::NO_DEV.0 | Self::NO_EXEC.0);
}

impl BitOr for MountFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A file system being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Of the type `name`, as `/proc/filesystems` lists it.
    pub fn open(name: &CStr) -> Result<Self, Errno> {
        // SAFETY: `name` is a NUL-terminated string that outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
        Ok(Self(own(fd)?))
    }

    /// Sets an option that has a value.
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
    }

    /// Sets an option that has none.
    pub fn flag(&self, key: &CStr) -> Result<(), Errno> {
        self.configure(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())
    }

    /// Creates the file system, and a mount of it that is attached nowhere.
    pub fn mount(&self, flags: MountFlags) -> Result<OwnedFd, Errno> {
        self.configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
        // SAFETY: takes a descriptor and integers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                flags.0,
            )
        };
        own(fd)
    }

    /// What the file system had to say of an option or a failure.
    pub fn messages(&self) -> String {
        let mut text = String::new();
        let mut buffer = [0; 512];
        while let Ok(length) = nix::unistd::read(self.0.as_fd(), &mut buffer) {
            let line = String::from_utf8_lossy(&buffer[..length]);
            if !text.is_empty() {
                text.push_str(", ");
            }
            // Each is "e overlay: what is wrong", with its severity first.
            text.push_str(line.get(2..).unwrap_or_default().trim());
        }
        text
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
    ) -> Result<(), Errno> {
        // SAFETY: key and value are null or NUL-terminated strings borrowed by
        // the caller for the length of this call, as the command asks.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                0,
            )
        };
        Errno::result(done).map(drop)
    }
}

/// A detached copy of the mount at `path` below `folder` (a bind mount), with
/// everything mounted below it where `recursive`. An empty `path` is `folder`
/// itself. It must be in the caller's mount namespace.
pub fn clone_tree(folder: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let deep = if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            folder.as_raw_fd(),
            path.as_ptr(),
            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | deep,
        )
    };
    own(fd)
}

/// Adds restrictions to a mount, and to those below it where `recursive`.
pub fn restrict(mount: BorrowedFd<'_>, flags: MountFlags, recursive: bool) -> Result<(), Errno> {
    set_attributes(mount, c"", flags, 0, recursive)
}

/// How a mount shares what is mounted below it (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all.
    Private,
    /// In both directions, with those that it is a copy of.
    Shared,
    /// What is mounted below those is seen here, and not the reverse.
    Slave,
}

/// Says how a mount, and those below it where `recursive`, share what is
/// mounted below them.
pub fn share(mount: BorrowedFd<'_>, sharing: Sharing, recursive: bool) -> Result<(), Errno> {
    let propagation = match sharing {
        Sharing::Private => libc::MS_PRIVATE,
        Sharing::Shared => libc::MS_SHARED,
        Sharing::Slave => libc::MS_SLAVE,
    };
    set_attributes(mount, c"", MountFlags::NONE, propagation, recursive)
}

/// Shows the files of a detached mount, and of those below it where `recursive`, with
/// the owners that a user namespace makes of them (`MOUNT_ATTR_IDMAP`). Needs privilege
/// over the file system, which must know of it (`EINVAL`).
pub fn map_ids(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: namespace.as_raw_fd() as u64,
    };
    set_all(mount, c"", &attributes, recursive)
}

/// Lets every mount of the caller's namespace be shared with others.
pub fn make_all_shared() -> Result<(), Errno> {
    set_attributes(
        nix::fcntl::AT_FDCWD,
        c"/",
        MountFlags::NONE,
        libc::MS_SHARED,
        true,
    )
}

/// Cuts every mount of the caller's namespace off from others: nothing mounted
/// here is seen there, or the reverse.
pub fn make_all_private() -> Result<(), Errno> {
    set_attributes(
        nix::fcntl::AT_FDCWD,
        c"/",
        MountFlags::NONE,
        libc::MS_PRIVATE,
        true,
    )
}

fn set_attributes(
    folder: BorrowedFd<'_>,
    path: &CStr,
    flags: MountFlags,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set: flags.0,
        clear: 0,
        propagation,
        user_namespace: 0,
    };
    set_all(folder, path, &attributes, recursive)
}

fn set_all(
    folder: BorrowedFd<'_>,
    path: &CStr,
    attributes: &MountAttributes,
    recursive: bool,
) -> Result<(), Errno> {
    let deep = if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is NUL-terminated, and `attributes` is a mount_attr of
    // the size given; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder.as_raw_fd(),
            path.as_ptr(),
            AT_EMPTY_PATH | deep,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(done).map(drop)
}

/// Mounts the detached `mount` over the folder or file that `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are empty NUL-terminated strings.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

/// The result of a call that returns a descriptor.
fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
