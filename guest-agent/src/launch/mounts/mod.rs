//! The container's file systems, all within its own mount namespace, so that
//! the machine never sees them.
//!
//! ```text
//!  /               overlay     nodev
//!  ├ proc          proc        what the kernel tells everyone is masked
//!  ├ dev           tmpfs       six devices, links; pts, shm, mqueue, console
//!  ├ sys           sysfs       read-only
//!  │ └ fs/cgroup   its cgroup  read-only
//!  ├ etc/hosts …   files of the container's folder
//!  └ …             what the user asked for
//! ```
//!
//! Targets are descriptors resolved within the new root, never paths.

mod bind;
mod dev;
mod mask;
mod overlay;
mod pivot;
mod system;

use std::os::fd::OwnedFd;

use super::error::{At, LaunchError, Stage};
use super::plan::LaunchPlan;
use super::report::Reporter;
use super::resolve::Root;
use crate::cgroup::Cgroup;
use crate::sys::mount;

pub(super) use dev::{DevPts, open_console_of};

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
    reporter: &Reporter,
) -> Result<(Root, Mounted), LaunchError> {
    mount::make_all_private().at(Stage::Root, || "make the mounts private")?;
    let root = overlay::mount(&plan.rootfs)?;
    let proc = system::mount_proc(&root)?;
    system::set_sysctls(&proc, reporter);
    let dev = dev::mount(&root)?;
    let terminals = dev::mount_below(&dev)?;
    system::mount_sys(&root)?;
    system::mount_cgroup(&root, cgroup, reporter)?;
    for file in &plan.etc {
        bind::etc_file(&root, file)?;
    }
    for request in &plan.binds {
        bind::user(&root, request)?;
    }
    mask::apply(&root, &dev)?;
    Ok((root, Mounted { terminals, dev }))
}

/// Makes `root` the root of the process, and lets go of the machine's.
pub(super) fn enter(root: &Root) -> Result<(), LaunchError> {
    pivot::enter(root)
}
