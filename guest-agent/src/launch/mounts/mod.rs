//! The container's file systems, all within its own mount namespace, so that
//! the machine never sees them.
//!
//! ```text
//!  /               overlay     nodev, if device files cannot be made
//!  ├ proc          proc        what the kernel tells everyone is masked
//!  ├ dev           tmpfs       six devices, links; pts, shm, mqueue, console; those asked for
//!  ├ sys           sysfs       read-only
//!  │ └ fs/cgroup   its cgroup  read-only
//!  ├ etc/hosts …   files of the container's folder
//!  └ …             what the user asked for
//! ```
//!
//! A privileged container's `/sys` is writable, and nothing is masked.
//!
//! Targets are descriptors resolved within the new root, never paths.

mod asked;
mod bind;
mod dev;
mod device;
mod mask;
mod outside;
mod overlay;
mod pivot;
mod system;
mod volume;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::error::{At, LaunchError, Stage};
use super::plan::{LaunchPlan, NetworkPlan};
use super::report::Reporter;
use super::resolve::{Kind, Root};
use crate::cgroup::Cgroup;
use crate::sys::caps;
use crate::sys::mount::{self, MountFlags, restrict};

pub(super) use dev::{DevPts, open_console_of};
pub(super) use outside::{Taken, take};

/// What the later stages need of the file systems made here.
pub(super) struct Mounted {
    /// The container's terminals.
    pub(super) terminals: DevPts,
    /// The container's `/dev`.
    pub(super) dev: OwnedFd,
}

/// Makes the container's file systems. [`enter`] then makes them the root.
pub(super) fn build(
    plan: &LaunchPlan,
    cgroup: &Cgroup,
    taken: Option<Taken>,
    reporter: &Reporter,
) -> Result<(Root, Mounted), LaunchError> {
    let settings = &plan.settings;
    let writable = settings.privileged;
    let (root, etc, asked) = begin(plan, taken)?;
    let proc = system::mount_proc(&root)?;
    // The parameters of a network are those of whoever made it.
    if matches!(plan.network, NetworkPlan::Alone | NetworkPlan::Networks(_)) {
        system::set_sysctls(&proc, reporter);
    }
    for (path, value) in &plan.settings.sysctls {
        system::set_asked(&proc, path, value)?;
    }
    let dev = dev::mount(&root)?;
    device::make(&dev, &settings.devices)?;
    let terminals = dev::mount_below(&dev, plan.settings.shm_size)?;
    system::mount_sys(&root, writable)?;
    system::mount_cgroup(&root, cgroup, writable, reporter)?;
    for (file, source) in plan.etc.iter().zip(&etc) {
        bind::etc_file(&root, file, source)?;
    }
    device::show(&root, &dev, &settings.devices)?;
    asked.mount(&root)?;
    if !settings.system_paths_unconfined {
        mask::apply(&root, &dev)?;
    }
    if plan.settings.read_only {
        protect(&root, Path::new(&plan.process.cwd))?;
    }
    Ok((root, Mounted { terminals, dev }))
}

/// The root, with nothing mounted in it, and what is taken of the machine.
fn begin(
    plan: &LaunchPlan,
    taken: Option<Taken>,
) -> Result<(Root, Vec<bind::Source>, asked::Mounts<'_>), LaunchError> {
    let private = || mount::make_all_private().at(Stage::Root, || "make the mounts private");
    if let Some(taken) = taken {
        private()?;
        let root = overlay::put(taken.root)?;
        return Ok((root, taken.etc, asked::prepared(plan, taken.binds)));
    }
    let asked = asked::prepare(plan)?;
    private()?;
    let settings = &plan.settings;
    let with_devices = settings.kept().contains(caps::MKNOD);
    let root = overlay::mount(&plan.rootfs, with_devices)?;
    // While there is nothing but the image to be copied.
    volume::fill(&root, &settings.fills)?;
    let etc = plan.etc.iter();
    let etc = etc.map(|file| bind::take_etc(file, settings.read_only));
    Ok((root, etc.collect::<Result<_, _>>()?, asked))
}

/// Makes the root read-only; what is mounted in it stays as it is. The working
/// directory is made before, since it cannot be later.
fn protect(root: &Root, cwd: &Path) -> Result<(), LaunchError> {
    // Where it cannot be made, entering it says so.
    let _ = root.ensure(cwd, Kind::Folder);
    restrict(root.as_fd(), MountFlags::READ_ONLY, false)
        .at(Stage::Root, || "make the container's root read-only")
}

/// Makes `root` the root of the process, and lets go of the machine's.
pub(super) fn enter(root: &Root) -> Result<(), LaunchError> {
    pivot::enter(root)
}
