//! `/proc`, `/sys` and the container's own cgroup.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::cgroup::{Cgroup, Hierarchy};
use crate::launch::error::{At, LaunchError, Stage, to_errno};
use crate::launch::report::Reporter;
use crate::launch::resolve::{Root, open_plain};
use crate::sys::idmap::IdMap;
use crate::sys::mount::{FsContext, MountFlags, attach, clone_tree, restrict};

/// What makes the default capabilities enough: low ports and `ping` without
/// `CAP_NET_RAW`.
const LOW_PORTS: (&CStr, &str) = (c"sys/net/ipv4/ip_unprivileged_port_start", "0");
const PING: &CStr = c"sys/net/ipv4/ping_group_range";
/// The last group that may send pings, where there are so many.
const LAST_PINGER: u32 = i32::MAX.cast_unsigned();

/// Mounts `/proc`, and returns it.
pub(super) fn mount_proc(root: &Root) -> Result<OwnedFd, LaunchError> {
    mount_over(root, "proc", c"proc", MountFlags::DATA_ONLY)
}

/// Mounts `/sys`.
pub(super) fn mount_sys(root: &Root, writable: bool) -> Result<(), LaunchError> {
    mount_over(root, "sys", c"sysfs", flags(writable)).map(drop)
}

fn flags(writable: bool) -> MountFlags {
    match writable {
        true => MountFlags::DATA_ONLY,
        false => MountFlags::DATA_ONLY | MountFlags::READ_ONLY,
    }
}

fn mount_over(
    root: &Root,
    folder: &str,
    kind: &CStr,
    flags: MountFlags,
) -> Result<OwnedFd, LaunchError> {
    let mount = || {
        let target = root.plain_folder(folder)?;
        let mount = FsContext::open(kind)?.mount(flags)?;
        attach(mount.as_fd(), target.as_fd())?;
        Ok(mount)
    };
    mount().at(Stage::System, || format!("mount /{folder}"))
}

/// Sets the kernel's parameters of the container's namespaces. `proc` is a
/// mount of procfs that nobody else has touched, so what is written below it
/// is what it seems to be.
pub(super) fn set_sysctls(proc: &OwnedFd, reporter: &Reporter) {
    let groups = IdMap::of_groups().unwrap_or_default();
    let last = groups.last_from_zero().unwrap_or(0).min(LAST_PINGER);
    for (name, value) in [LOW_PORTS, (PING, &format!("0 {last}"))] {
        if let Err(errno) = set_sysctl(proc, name, value) {
            let name = name.to_string_lossy();
            let text = format!("cannot set /proc/{name}: {}", errno.desc());
            reporter.warning(&text);
        }
    }
}

/// Sets a kernel parameter that the user asked for, by its path below `/proc/sys`.
pub(super) fn set_asked(proc: &OwnedFd, path: &str, value: &str) -> Result<(), LaunchError> {
    let set = || {
        let name = CString::new(format!("sys/{path}")).map_err(|_| Errno::EINVAL)?;
        set_sysctl(proc, &name, value)
    };
    set().at(Stage::Settings, || {
        format!(
            "set the kernel parameter {} to `{value}`",
            path.replace('/', ".")
        )
    })
}

fn set_sysctl(proc: &OwnedFd, name: &CStr, value: &str) -> Result<(), Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let mut file = std::fs::File::from(openat2(proc, name, how)?);
    file.write_all(value.as_bytes()).map_err(to_errno)
}

/// Shows the container its own cgroup at `/sys/fs/cgroup`: the unified hierarchy
/// itself, or a folder for each of the older ones.
pub(super) fn mount_cgroup(
    root: &Root,
    cgroup: &Cgroup,
    writable: bool,
    reporter: &Reporter,
) -> Result<(), LaunchError> {
    let target = match root.open("sys/fs/cgroup", OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(target) => target,
        Err(errno) => {
            reporter.warning(&format!("no /sys/fs/cgroup to mount: {}", errno.desc()));
            return Ok(());
        }
    };
    let mounted = match cgroup.hierarchies() {
        [] => Ok(()),
        [unified] if unified.is_unified() => clone_restricted(&unified.folder, flags(writable))
            .and_then(|it| attach(it.as_fd(), target.as_fd())),
        several => mount_several(several, &target, flags(writable)),
    };
    mounted.at(Stage::System, || "mount /sys/fs/cgroup")
}

fn mount_several(
    hierarchies: &[Hierarchy],
    target: &OwnedFd,
    flags: MountFlags,
) -> Result<(), Errno> {
    let context = FsContext::open(c"tmpfs")?;
    context.set(c"mode", c"755")?;
    let folder = context.mount(MountFlags::DATA_ONLY)?;
    attach(folder.as_fd(), target.as_fd())?;
    for hierarchy in hierarchies {
        let name = Path::new(&hierarchy.name);
        mkdirat(&folder, name, Mode::from_bits_truncate(0o755))?;
        let place = open_plain(folder.as_fd(), name, OFlag::O_DIRECTORY)?;
        attach(
            clone_restricted(&hierarchy.folder, flags)?.as_fd(),
            place.as_fd(),
        )?;
    }
    restrict(folder.as_fd(), MountFlags::READ_ONLY, false)
}

fn clone_restricted(folder: &Path, flags: MountFlags) -> Result<OwnedFd, Errno> {
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let tree = clone_tree(AT_FDCWD, &path, false)?;
    restrict(tree.as_fd(), flags, false)?;
    Ok(tree)
}
