//! What a container in a user namespace of its own is to have of the machine's files,
//! made where there is still power over them.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};
use nix::sched::CloneFlags;
use nix::sys::prctl::set_keepcaps;

use super::bind::{self, Source};
use super::{overlay, volume};
use crate::launch::error::{At, LaunchError, Stage, to_errno};
use crate::launch::plan::{LaunchPlan, StoredIds, UsernsPlan};
use crate::launch::report::Reporter;
use crate::launch::resolve::Root;
use crate::launch::spawn::in_between;
use crate::rootfs::assemble::{Layers, assemble};
use crate::sys::caps;
use crate::sys::mount::{attach, clone_tree, make_all_private, map_ids};
use crate::sys::process::{set_group, set_user};

/// Mounts that are attached nowhere yet.
#[derive(Debug)]
pub(in crate::launch) struct Taken {
    pub(super) root: OwnedFd,
    pub(super) etc: Vec<Source>,
    pub(super) binds: Vec<Source>,
}

impl Taken {
    /// All of them, in a certain order.
    pub(in crate::launch) fn mounts(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let others = self.etc.iter().chain(&self.binds);
        std::iter::once(self.root.as_fd()).chain(others.map(Source::as_fd))
    }

    /// The same, received one by one in that order.
    pub(in crate::launch) fn receive(
        plan: &LaunchPlan,
        mut next: impl FnMut() -> Result<OwnedFd, LaunchError>,
    ) -> Result<Self, LaunchError> {
        let root = next()?;
        let mut several = |count| {
            let source = |_| {
                let source = Source::new(next()?);
                source.at(Stage::Binds, || "look at a mount's source")
            };
            (0..count).map(source).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            root,
            etc: several(plan.etc.len())?,
            binds: several(plan.binds.len())?,
        })
    }
}

/// Makes them for a container with these ids, whose user namespace is open. Returns
/// what the user should know as well.
pub(in crate::launch) fn take(
    plan: &LaunchPlan,
    ids: &UsernsPlan,
    namespace: BorrowedFd<'_>,
) -> Result<(Taken, Vec<String>), LaunchError> {
    let shown_in = (ids.stored == StoredIds::Containers).then_some(namespace);
    let root = in_between(CloneFlags::CLONE_NEWNS, |reporter| {
        assemble_root(plan, ids, shown_in, reporter)
    })?;
    let mut warnings = Vec::new();
    let mut shown = |source: Source, path: &Path, deep| {
        let mapped = shown_in.map_or(Ok(()), |namespace| map_ids(source.as_fd(), namespace, deep));
        if let Err(errno) = mapped {
            warnings.push(format!(
                "files of {} belong to nobody in the container: their file system cannot be shown with other owners ({})",
                path.display(),
                errno.desc()
            ));
        }
        source
    };
    let read_only = plan.settings.read_only;
    let etc = plan.etc.iter().map(|file| {
        let source = bind::take_etc(file, read_only)?;
        Ok(shown(source, &file.source, true))
    });
    let etc = etc.collect::<Result<_, LaunchError>>()?;
    let binds = plan.binds.iter().map(|request| {
        let source = bind::take(request)?;
        Ok(shown(source, &request.source, true))
    });
    let binds = binds.collect::<Result<_, LaunchError>>()?;
    Ok((Taken { root, etc, binds }, warnings))
}

/// Hands the container's root over, mounted from the layers' and changes' mapped
/// doubles. These cover the originals, in the mount namespace of this process only.
fn assemble_root(
    plan: &LaunchPlan,
    ids: &UsernsPlan,
    shown_in: Option<BorrowedFd<'_>>,
    reporter: &Reporter,
) -> Result<Infallible, LaunchError> {
    make_all_private().at(Stage::Root, || "make the mounts private")?;
    fill_volumes(plan)?;
    if let Some(namespace) = shown_in {
        let folder = plan.rootfs.upper.parent().unwrap_or(&plan.rootfs.upper);
        for path in plan.rootfs.lower.iter().map(AsRef::as_ref).chain([folder]) {
            cover(path, namespace).at(Stage::Root, || {
                format!("show {} with the container's owners", path.display())
            })?;
        }
        // overlayfs makes its own folder, which has to belong to one of them.
        act_as(ids.root()).at(Stage::Root, || "act as the container's root")?;
    }
    let with_devices = plan.settings.kept().contains(caps::MKNOD);
    let root = overlay::mount(&plan.rootfs, with_devices)?;
    clone_tree(root.as_fd(), c"", false)
        .and_then(|root| reporter.hand_over(root.as_fd()))
        .and_then(|()| reporter.ready())
        .at(Stage::Root, || "hand the container's root over")?;
    crate::sys::process::exit_now(0)
}

fn fill_volumes(plan: &LaunchPlan) -> Result<(), LaunchError> {
    if plan.settings.fills.is_empty() {
        return Ok(());
    }
    let rootfs = &plan.rootfs;
    let lower = std::iter::once(&rootfs.upper).chain(&rootfs.lower);
    let image = assemble(&Layers {
        lower: lower.map(AsRef::as_ref).collect(),
        changes: None,
        mount_point: &rootfs.mount_point,
    });
    let image = image
        .map_err(to_errno)
        .at(Stage::Root, || "assemble the image to fill volumes from")?;
    volume::fill(&Root::new(image), &plan.settings.fills)
}

fn cover(path: &Path, namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let double = clone_tree(AT_FDCWD, &name, false)?;
    map_ids(double.as_fd(), namespace, false)?;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    attach(double.as_fd(), openat2(AT_FDCWD, path, how)?.as_fd())
}

/// Becomes another user, and keeps all capabilities.
fn act_as((user, group): (u32, u32)) -> Result<(), Errno> {
    let all = caps::permitted()?;
    set_keepcaps(true)?;
    set_group(group)?;
    set_user(user)?;
    caps::set_permitted(all)
}
