//! The overlay that is the container's root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};
use nix::mount::MsFlags;

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::plan::RootfsPlan;
use crate::launch::resolve::Root;
use crate::sys::idmap::is_nested;
use crate::sys::mount::{FsContext, MountFlags, attach};

/// Without an index and redirects the upper folder stays an ordinary tree of
/// changes, whatever the kernel's defaults are.
const OPTIONS: [(&CStr, &CStr); 3] = [
    (c"index", c"off"),
    (c"metacopy", c"off"),
    (c"redirect_dir", c"nofollow"),
];

/// Its own attributes are `user.overlay.`, as nobody else may have `trusted.` ones
/// in a user namespace.
const USER_XATTRS: &CStr = c"userxattr";

/// Mounts the overlay at the plan's mount point. Device files in it can be
/// opened only `with_devices`.
pub(super) fn mount(plan: &RootfsPlan, with_devices: bool) -> Result<Root, LaunchError> {
    let by_descriptor = match mount_layer_by_layer(plan, with_devices) {
        // Before Linux 6.8 there is no `lowerdir+`.
        Err(refused) if refused.errno == Errno::EINVAL => {
            match mount_in_one_line(plan, with_devices) {
                Err(Errno::EINVAL) => Err(refused),
                other => other.map_err(Refused::from),
            }
        }
        other => other,
    };
    by_descriptor.map(Root::new).map_err(|refused| LaunchError {
        stage: Stage::Root,
        errno: Some(refused.errno),
        detail: format!(
            "cannot mount the container's root at {}{}",
            plan.mount_point.display(),
            refused.why
        ),
    })
}

/// Puts a root that was mounted elsewhere over the root of the calling process.
pub(super) fn put(mounted: OwnedFd) -> Result<Root, LaunchError> {
    Root::own()
        .and_then(|machines| attach(mounted.as_fd(), machines.as_fd()))
        .at(Stage::Root, || "attach the container's root")?;
    Ok(Root::new(mounted))
}

/// A refusal, and what overlayfs said of it.
struct Refused {
    errno: Errno,
    why: String,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            why: String::new(),
        }
    }
}

/// One layer an option: no limit but the kernel's 500 layers.
fn mount_layer_by_layer(plan: &RootfsPlan, with_devices: bool) -> Result<OwnedFd, Refused> {
    let flags = match with_devices {
        true => MountFlags::NONE,
        false => MountFlags::NO_DEV,
    };
    let overlay = FsContext::open(c"overlay")?;
    let mounted = configure(&overlay, plan)
        .and_then(|()| overlay.mount(flags))
        .map_err(|errno| Refused {
            errno,
            why: match overlay.messages() {
                said if said.is_empty() => said,
                said => format!(" ({said})"),
            },
        })?;
    attach(mounted.as_fd(), open_folder(&plan.mount_point)?.as_fd())?;
    Ok(mounted)
}

fn configure(overlay: &FsContext, plan: &RootfsPlan) -> Result<(), Errno> {
    for layer in &plan.lower {
        overlay.set(c"lowerdir+", &c_path(layer)?)?;
    }
    overlay.set(c"upperdir", &c_path(&plan.upper)?)?;
    overlay.set(c"workdir", &c_path(&plan.work)?)?;
    OPTIONS
        .iter()
        .try_for_each(|(key, value)| overlay.set(key, value))?;
    match is_nested() {
        true => overlay.flag(USER_XATTRS),
        false => Ok(()),
    }
}

/// mount(2), whose options must fit a page: folders are named by their
/// descriptors, which are short and need no escaping.
fn mount_in_one_line(plan: &RootfsPlan, with_devices: bool) -> Result<OwnedFd, Errno> {
    let flags = match with_devices {
        true => MsFlags::empty(),
        false => MsFlags::MS_NODEV,
    };
    let layers: Vec<OwnedFd> = plan
        .lower
        .iter()
        .map(|layer| open_folder(layer))
        .collect::<Result<_, _>>()?;
    let (upper, work) = (open_folder(&plan.upper)?, open_folder(&plan.work)?);
    let lower: Vec<String> = layers.iter().map(by_descriptor).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=nofollow{}",
        lower.join(":"),
        by_descriptor(&upper),
        by_descriptor(&work),
        if is_nested() { ",userxattr" } else { "" }
    );
    nix::mount::mount(
        Some("overlay"),
        &plan.mount_point,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )?;
    open_folder(&plan.mount_point)
}

fn by_descriptor(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    openat2(AT_FDCWD, path, how)
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_mount_point() {
        let nowhere = Path::new("/nonexistent");
        let plan = RootfsPlan {
            lower: vec![nowhere.into()],
            upper: nowhere.into(),
            work: nowhere.into(),
            mount_point: nowhere.into(),
        };
        let error = mount(&plan, false).unwrap_err();
        assert_eq!(error.stage, Stage::Root);
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }

    #[test]
    fn descriptors_are_opened_as_places() {
        let folder = open_folder(Path::new("/")).unwrap();
        assert_eq!(
            std::fs::read_link(by_descriptor(&folder)).unwrap(),
            Path::new("/")
        );
    }
}
