//! Makes an empty initramfs into a place where containers can be run.
//!
//! `pivot_root(2)` refuses to work while the root is the initramfs itself,
//! because that mount has no parent. So the initramfs is bind-mounted over
//! itself and becomes the root from there, which costs no copy, and lets the
//! boot image, the agent's executable included, be read-only.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::DATA_ROOT;
use super::error::GuestError;
use crate::sys::mount::make_all_shared;

/// Folder that the root moves through on its way.
const NEW_ROOT: &str = "/.root";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// One line of the guest's fstab.
struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
}

fn mounts() -> [Mount; 7] {
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let devices = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let entry = |kind, target, flags, data| Mount {
        kind,
        target,
        flags,
        data,
    };
    [
        entry("proc", "/proc", inert, ""),
        entry("sysfs", "/sys", inert, ""),
        entry("devtmpfs", "/dev", devices, "mode=755"),
        entry(
            "devpts",
            "/dev/pts",
            devices,
            "newinstance,gid=5,mode=620,ptmxmode=666",
        ),
        entry("tmpfs", "/dev/shm", inert, "mode=1777"),
        entry(
            "tmpfs",
            "/run",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            "mode=755,size=16m",
        ),
        entry("cgroup2", CGROUP_ROOT, inert, "nsdelegate"),
    ]
}

/// Kernel settings that harden the guest or lift a limit; each is written
/// where the kernel has it.
const SYSCTLS: [(&str, &str); 9] = [
    ("kernel/io_uring_disabled", "2"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/pid_max", "4194304"),
    ("fs/inotify/max_user_instances", "1024"),
    ("vm/max_map_count", "262144"),
];

/// Moves the root to a mount that `pivot_root` accepts.
pub(super) fn enter_root() -> Result<(), GuestError> {
    for folder in [NEW_ROOT, "/proc", "/sys", "/dev", "/run", DATA_ROOT] {
        fs::create_dir_all(folder).map_err(GuestError::setup("create", folder))?;
    }
    bind(Some("/"), NEW_ROOT, MsFlags::MS_BIND)?;
    std::env::set_current_dir(NEW_ROOT).map_err(GuestError::setup("enter", NEW_ROOT))?;
    bind(Some("."), "/", MsFlags::MS_MOVE)?;
    nix::unistd::chroot(".").map_err(GuestError::setup("change the root to", NEW_ROOT))?;
    std::env::set_current_dir("/").map_err(GuestError::setup("enter", "/"))
}

/// Refuses further changes to the boot image.
pub(super) fn seal_root() -> Result<(), GuestError> {
    bind(
        None,
        "/",
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
    )
}

/// Lets mounts be shared with containers that ask for it, as distributions do:
/// a mount below a shared one is shared, too.
pub(crate) fn share_mounts() -> Result<(), GuestError> {
    make_all_shared().map_err(GuestError::setup("share the mounts below", "/"))
}

fn bind(source: Option<&str>, target: &'static str, flags: MsFlags) -> Result<(), GuestError> {
    mount(source, target, None::<&str>, flags, None::<&str>)
        .map_err(GuestError::setup("set up the root at", target))
}

/// Mounts the kernel's file systems.
pub(super) fn mount_all() -> Result<(), GuestError> {
    mounts().iter().try_for_each(mount_one)?;
    // What a container registers there lasts only while somebody has it mounted.
    let interpreters = Mount {
        kind: "binfmt_misc",
        target: "/proc/sys/fs/binfmt_misc",
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        data: "",
    };
    if let Err(error) = mount_one(&interpreters) {
        // A kernel without it runs its own processor's programs only.
        eprintln!("isolazi: {error}");
    }
    Ok(())
}

/// Mounts those that nobody has mounted yet, as the table of mounts
/// (`/proc/self/mounts`, proc(5)) has it.
pub(crate) fn mount_missing() -> Result<(), GuestError> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let entries = mounts();
    let missing = entries.iter().filter(|it| !is_mounted(&table, it.target));
    missing.into_iter().try_for_each(mount_one)
}

/// Whether something is mounted at `target`, or below, as with v1 of cgroups.
fn is_mounted(table: &str, target: &str) -> bool {
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    let is_there = |point: &str| {
        let below = point.strip_prefix(target);
        below.is_some_and(|rest| rest.is_empty() || target == CGROUP_ROOT && rest.starts_with('/'))
    };
    points.into_iter().any(is_there)
}

fn mount_one(entry: &Mount) -> Result<(), GuestError> {
    // Folders within /dev and /sys exist only once their parent is mounted;
    // in sysfs the kernel has made them.
    if !entry.target.starts_with("/sys/") {
        fs::create_dir_all(entry.target).map_err(GuestError::setup("create", entry.target))?;
    }
    mount(
        Some(entry.kind),
        entry.target,
        Some(entry.kind),
        entry.flags,
        Some(entry.data),
    )
    .map_err(GuestError::setup("mount", entry.target))
}

/// Lets containers be limited by every controller that the kernel has.
pub(crate) fn enable_controllers() -> Result<(), GuestError> {
    let available = Path::new(CGROUP_ROOT).join("cgroup.controllers");
    let names =
        fs::read_to_string(&available).map_err(GuestError::setup("read", "cgroup.controllers"))?;
    let wanted = enable_all(&names);
    fs::write(
        Path::new(CGROUP_ROOT).join("cgroup.subtree_control"),
        &wanted,
    )
    .map_err(GuestError::setup("enable cgroup controllers", wanted))
}

fn enable_all(names: &str) -> String {
    let names: Vec<String> = names
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    names.join(" ")
}

/// Host name and sysctls. None of them is worth refusing to boot:
/// what fails is told on the console.
pub(super) fn configure(hostname: &str) {
    if let Err(error) = nix::unistd::sethostname(hostname) {
        eprintln!("isolazi: cannot set the host name: {error}");
    }
    for (name, value) in SYSCTLS {
        match fs::write(Path::new("/proc/sys").join(name), value) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("isolazi: cannot set {name} to {value}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_known() {
        let table = "none / ext4 rw 0 0\nproc /proc proc rw 0 0\n\
                     cgroup /sys/fs/cgroup/pids cgroup rw 0 0\nx /dev/ptsx y rw 0 0\n";
        for there in ["/proc", CGROUP_ROOT] {
            assert!(is_mounted(table, there), "{there}");
        }
        for missing in ["/dev", "/dev/pts", "/run", "/sys"] {
            assert!(!is_mounted(table, missing), "{missing}");
        }
    }

    #[test]
    fn every_controller_is_enabled() {
        assert_eq!(enable_all("cpuset cpu io\n"), "+cpuset +cpu +io");
        assert_eq!(enable_all("\n"), "");
    }
}
