//! Hides what the kernel tells of the machine, and protects what it lets root
//! change, below `/proc` and `/sys`.
//!
//! A masked file is covered by the container's own `/dev/null`, a masked
//! folder by one empty read-only tmpfs, and a protected path by itself,
//! read-only. What a kernel does not have is left alone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::resolve::Root;
use crate::sys::mount::{FsContext, MountFlags, attach, clone_tree, restrict};

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/selinux",
];

/// Its folders `cpu*` each have a `thermal_throttle` to mask, on some machines.
const CPUS: &str = "/sys/devices/system/cpu";

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Covers and protects them all. `dev` is the container's `/dev`.
pub(super) fn apply(root: &Root, dev: &OwnedFd) -> Result<(), LaunchError> {
    let mut covers = Covers { dev, empty: None };
    for path in MASKED {
        mask(root, &mut covers, Path::new(path))?;
    }
    for path in thermal_throttles(root) {
        mask(root, &mut covers, &path)?;
    }
    for path in READ_ONLY {
        protect(root, path).at(Stage::Masks, || format!("make {path} read-only"))?;
    }
    Ok(())
}

/// What covers a masked path.
struct Covers<'a> {
    dev: &'a OwnedFd,
    /// The empty folder, once it is mounted somewhere.
    empty: Option<OwnedFd>,
}

impl Covers<'_> {
    fn cover_file(&self, target: &OwnedFd) -> Result<(), Errno> {
        let null = clone_tree(self.dev.as_fd(), c"null", false)?;
        attach(null.as_fd(), target.as_fd())
    }

    fn cover_folder(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            let copy = clone_tree(empty.as_fd(), c"", false)?;
            return attach(copy.as_fd(), target.as_fd());
        }
        let context = FsContext::open(c"tmpfs")?;
        context.flag(c"ro")?;
        let empty = context.mount(MountFlags::DATA_ONLY | MountFlags::READ_ONLY)?;
        attach(empty.as_fd(), target.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }
}

fn mask(root: &Root, covers: &mut Covers<'_>, path: &Path) -> Result<(), LaunchError> {
    let mut cover = || {
        let Some(target) = existing(root, path)? else {
            return Ok(());
        };
        match fstat(&target)?.st_mode & libc::S_IFMT {
            libc::S_IFDIR => covers.cover_folder(&target),
            _ => covers.cover_file(&target),
        }
    };
    cover().at(Stage::Masks, || format!("mask {}", path.display()))
}

fn protect(root: &Root, path: &str) -> Result<(), Errno> {
    let Some(target) = existing(root, Path::new(path))? else {
        return Ok(());
    };
    let copy = clone_tree(target.as_fd(), c"", true)?;
    restrict(copy.as_fd(), MountFlags::READ_ONLY, true)?;
    attach(copy.as_fd(), target.as_fd())
}

fn existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match root.open(path, OFlag::O_PATH) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn thermal_throttles(root: &Root) -> Vec<PathBuf> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let Some(folder) = root.open(CPUS, flags).ok() else {
        return Vec::new();
    };
    let Ok(mut folder) = Dir::from_fd(folder) else {
        return Vec::new();
    };
    let names = folder.iter().filter_map(Result::ok);
    let cpus = names.filter(|entry| is_cpu(entry.file_name().to_bytes()));
    cpus.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Path::new(CPUS).join(name).join("thermal_throttle")
    })
    .collect()
}

/// `cpu` and a number.
fn is_cpu(name: &[u8]) -> bool {
    match name.strip_prefix(b"cpu") {
        Some(number) => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_cpus_are_processors() {
        assert!(is_cpu(b"cpu0") && is_cpu(b"cpu127"));
        assert!(!is_cpu(b"cpu") && !is_cpu(b"cpuidle") && !is_cpu(b"online"));
    }
}
