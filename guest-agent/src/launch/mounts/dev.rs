//! The container's `/dev`: a tmpfs of its own with the few devices that every
//! program may use, made through the folder's descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, mknodat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::symlinkat;

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::resolve::{Root, create_file, open_plain};
use crate::sys::idmap::IdMap;
use crate::sys::mount::{FsContext, MountFlags, attach, clone_tree};
use crate::sys::tty::{Pty, open_slave};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Character devices: name, and the two halves of the number.
const DEVICES: [(&CStr, u64, u64); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// A file system mounted in a folder of `/dev`.
struct Below {
    name: &'static CStr,
    kind: &'static CStr,
    options: &'static [(&'static CStr, &'static CStr)],
    flags: MountFlags,
}

const SHM: Below = Below {
    name: c"shm",
    kind: c"tmpfs",
    options: &[(c"mode", c"1777")],
    flags: MountFlags::DATA_ONLY,
};

/// Bytes that `/dev/shm` may hold where nobody says.
const SHM_BYTES: u64 = 64 << 20;

const MQUEUE: Below = Below {
    name: c"mqueue",
    kind: c"mqueue",
    options: &[],
    flags: MountFlags::DATA_ONLY,
};

/// Every mount of devpts is an instance of its own (since Linux 4.7).
const PTS: Below = Below {
    name: c"pts",
    kind: c"devpts",
    options: &[(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")],
    // Its terminals are devices.
    flags: MountFlags::NO_EXEC_SUID,
};

/// The container's own instance of devpts.
#[derive(Debug)]
pub(in crate::launch) struct DevPts(OwnedFd);

impl DevPts {
    /// A new terminal of this instance.
    pub(in crate::launch) fn open_terminal(&self) -> Result<Pty, Errno> {
        open_terminal(self.0.as_fd())
    }

    /// Shows the terminal at `/dev/console`.
    pub(in crate::launch) fn show_as_console(
        &self,
        terminal: &Pty,
        dev: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        let index = CString::new(terminal.index.to_string()).map_err(|_| Errno::EINVAL)?;
        let console = Path::new("console");
        create_file(dev, console, 0o620)?;
        let place = open_plain(dev, console, OFlag::empty())?;
        attach(
            clone_tree(self.0.as_fd(), &index, false)?.as_fd(),
            place.as_fd(),
        )
    }
}

/// A new terminal of the running container whose root `root` is. Whatever it
/// has mounted at `/dev/pts`, only devpts is taken.
pub(in crate::launch) fn open_console_of(root: &Root) -> Result<Pty, Errno> {
    let folder = root.open("/dev/pts", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    if fstatfs(&folder)?.filesystem_type() != FsType(DEVPTS_MAGIC as _) {
        return Err(Errno::ENODEV);
    }
    open_terminal(folder.as_fd())
}

fn open_terminal(folder: BorrowedFd<'_>) -> Result<Pty, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    open_slave(openat2(folder, c"ptmx", how)?)
}

/// Mounts `/dev` with its devices and links, and returns it.
pub(super) fn mount(root: &Root) -> Result<OwnedFd, LaunchError> {
    let dev = mount_tmpfs(root).at(Stage::System, || "mount /dev")?;
    for (name, major, minor) in DEVICES {
        let device = Device {
            source: &Path::new("/dev").join(name.to_str().unwrap_or_default()),
            kind: SFlag::S_IFCHR,
            number: makedev(major, minor),
            mode: 0o666,
        };
        let name = Path::new(device.source.file_name().unwrap_or_default());
        device.make(dev.as_fd(), name).at(Stage::System, || {
            format!("make the device /dev/{}", name.display())
        })?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).at(Stage::System, || {
            format!("link /dev/{}", name.to_string_lossy())
        })?;
    }
    Ok(dev)
}

fn mount_tmpfs(root: &Root) -> Result<OwnedFd, Errno> {
    let target = root.plain_folder("dev")?;
    let context = FsContext::open(c"tmpfs")?;
    context.set(c"mode", c"755")?;
    context.set(c"size", c"64m")?;
    let dev = context.mount(MountFlags::NO_SUID | MountFlags::STRICT_ATIME)?;
    attach(dev.as_fd(), target.as_fd())?;
    Ok(dev)
}

/// A device file to be.
pub(super) struct Device<'a> {
    /// Where the machine has it.
    pub(super) source: &'a Path,
    pub(super) kind: SFlag,
    pub(super) number: libc::dev_t,
    pub(super) mode: libc::mode_t,
}

impl Device<'_> {
    /// Makes the file `name`, or shows the machine's where devices cannot be made.
    pub(super) fn make(&self, folder: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
        let mode = Mode::from_bits_truncate(self.mode);
        match mknodat(folder, name, self.kind, mode, self.number) {
            Err(Errno::EPERM) => self.show(folder, name),
            other => other,
        }
    }

    fn show(&self, folder: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW);
        let machines = openat2(AT_FDCWD, self.source, how)?;
        let found = fstat(&machines)?;
        if found.st_rdev != self.number || found.st_mode & libc::S_IFMT != self.kind.bits() {
            return Err(Errno::ENODEV);
        }
        create_file(folder, name, self.mode)?;
        let place = open_plain(folder, name, OFlag::empty())?;
        attach(
            clone_tree(machines.as_fd(), c"", false)?.as_fd(),
            place.as_fd(),
        )
    }
}

/// Mounts what is below `/dev`.
pub(super) fn mount_below(dev: &OwnedFd, shm_size: Option<u64>) -> Result<DevPts, LaunchError> {
    let pts = mount_one(dev, &PTS, None)?;
    mount_one(dev, &SHM, Some(shm_size.unwrap_or(SHM_BYTES)))?;
    mount_one(dev, &MQUEUE, None)?;
    Ok(DevPts(pts))
}

/// Whether the user namespace has the group `tty`, number 5 everywhere.
fn has_terminal_group() -> bool {
    IdMap::of_groups().is_ok_and(|groups| groups.contains(5))
}

fn mount_one(dev: &OwnedFd, below: &Below, size: Option<u64>) -> Result<OwnedFd, LaunchError> {
    let name = below.name.to_string_lossy();
    let mount = || {
        mkdirat(dev, below.name, Mode::from_bits_truncate(0o755))?;
        let place = open_plain(dev.as_fd(), Path::new(&*name), OFlag::O_DIRECTORY)?;
        let context = FsContext::open(below.kind)?;
        for (key, value) in below.options {
            // Without that group terminals keep the one of whoever opens them.
            if *key != c"gid" || has_terminal_group() {
                context.set(key, value)?;
            }
        }
        if let Some(size) = size {
            let size = CString::new(size.to_string()).map_err(|_| Errno::EINVAL)?;
            context.set(c"size", &size)?;
        }
        let mount = context.mount(below.flags)?;
        attach(mount.as_fd(), place.as_fd())?;
        Ok(mount)
    };
    mount().at(Stage::System, || format!("mount /dev/{name}"))
}
