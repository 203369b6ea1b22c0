//! Devices that the user asked for. Below `/dev` they are files of the
//! container's own; elsewhere they are mounts, as nobody needs them in the
//! container's changes.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::bind;
use super::dev::Device;
use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::plan::DevicePlan;
use crate::launch::resolve::{Kind, Root, open_plain};
use crate::sys::mount::{attach, clone_tree};

const DEV: &str = "/dev";
/// How the names of device files begin that are on their way to elsewhere.
const PASSING: &str = ".passing-";

/// Makes those that belong below `/dev`, which `dev` is. What is there already
/// stays as it is.
pub(super) fn make(dev: &OwnedFd, devices: &[DevicePlan]) -> Result<(), LaunchError> {
    for device in devices {
        if let Ok(path) = device.target.strip_prefix(DEV) {
            place(dev, path, device).at(Stage::System, || describe(device))?;
        }
    }
    Ok(())
}

fn place(dev: &OwnedFd, path: &Path, device: &DevicePlan) -> Result<(), Errno> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let mut folder = open_plain(dev.as_fd(), Path::new("."), OFlag::O_DIRECTORY)?;
    for part in path.parent().unwrap_or(Path::new("")).components() {
        let Component::Normal(part) = part else {
            return Err(Errno::EINVAL);
        };
        match mkdirat(&folder, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        folder = open_plain(folder.as_fd(), Path::new(part), OFlag::O_DIRECTORY)?;
    }
    make_owned(folder.as_fd(), Path::new(name), device)
}

fn make_owned(folder: BorrowedFd<'_>, name: &Path, device: &DevicePlan) -> Result<(), Errno> {
    let made = Device {
        source: &device.source,
        kind: match device.block {
            true => SFlag::S_IFBLK,
            false => SFlag::S_IFCHR,
        },
        number: device.number,
        mode: device.mode,
    };
    match made.make(folder, name) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    let owned = fchownat(
        folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    );
    match owned {
        // One that is shown instead of made is the machine's, and so is its owner.
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}

/// Shows those that belong elsewhere in the container: each by a mount of a file
/// of `dev` that has no name any more.
pub(super) fn show(root: &Root, dev: &OwnedFd, devices: &[DevicePlan]) -> Result<(), LaunchError> {
    let elsewhere = devices.iter().filter(|it| !it.target.starts_with(DEV));
    for (index, device) in elsewhere.enumerate() {
        let target = bind::place_for(root, &device.target, Kind::File)?;
        let name = format!("{PASSING}{index}");
        let show = || {
            make_owned(dev.as_fd(), Path::new(&name), device)?;
            let path = CString::new(name.as_str()).map_err(|_| Errno::EINVAL)?;
            let copy = clone_tree(dev.as_fd(), &path, true)?;
            attach(copy.as_fd(), target.as_fd())?;
            match unlinkat(dev, name.as_str(), UnlinkatFlags::NoRemoveDir) {
                // One that is shown instead of made is a mount there, too.
                Err(Errno::EBUSY) => Ok(()),
                other => other,
            }
        };
        show().at(Stage::Binds, || describe(device))?;
    }
    Ok(())
}

fn describe(device: &DevicePlan) -> String {
    format!(
        "make the device {} of {}",
        device.target.display(),
        device.source.display()
    )
}
