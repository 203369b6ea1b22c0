//! Mounts that the user asked for, whatever their kind, parents before what
//! lies below them: an order in which none hides another.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::bind::{self, Source};
use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::plan::{BindPlan, LaunchPlan, TmpfsPlan};
use crate::launch::resolve::{Kind, Root};
use crate::sys::mount::{FsContext, MountFlags, attach};

/// One of them.
enum Asked<'a> {
    Bind(&'a BindPlan, Option<Source>),
    Tmpfs(&'a TmpfsPlan),
}

impl Asked<'_> {
    fn target(&self) -> &Path {
        match self {
            Self::Bind(bind, _) => &bind.target,
            Self::Tmpfs(tmpfs) => &tmpfs.target,
        }
    }
}

/// All of them, those taken already that are shared with the machine.
pub(super) struct Mounts<'a>(Vec<Asked<'a>>);

/// Takes what is to be shared. Must be called while the mounts of the caller's
/// namespace still are.
pub(super) fn prepare(plan: &LaunchPlan) -> Result<Mounts<'_>, LaunchError> {
    let take = |bind: &BindPlan| match bind.propagation.is_private() {
        true => Ok(None),
        false => bind::take(bind).map(Some),
    };
    let taken: Result<Vec<_>, LaunchError> = plan.binds.iter().map(take).collect();
    Ok(Mounts(in_order(plan, taken?)))
}

/// The same, where all of it has been taken.
pub(super) fn prepared(plan: &LaunchPlan, taken: Vec<Source>) -> Mounts<'_> {
    Mounts(in_order(plan, taken.into_iter().map(Some).collect()))
}

impl Mounts<'_> {
    /// Mounts them all.
    pub(super) fn mount(&self, root: &Root) -> Result<(), LaunchError> {
        self.0.iter().try_for_each(|asked| match asked {
            Asked::Bind(request, Some(taken)) => bind::user(root, request, taken),
            Asked::Bind(request, None) => bind::user(root, request, &bind::take(request)?),
            Asked::Tmpfs(request) => tmpfs(root, request),
        })
    }
}

/// The shallowest first, and as they were given among equals.
fn in_order(plan: &LaunchPlan, taken: Vec<Option<Source>>) -> Vec<Asked<'_>> {
    let binds = plan.binds.iter().zip(taken);
    let binds = binds.map(|(bind, taken)| Asked::Bind(bind, taken));
    let tmpfs = plan.settings.tmpfs.iter().map(Asked::Tmpfs);
    let mut all: Vec<_> = binds.chain(tmpfs).collect();
    all.sort_by_key(|asked| asked.target().components().count());
    all
}

fn tmpfs(root: &Root, request: &TmpfsPlan) -> Result<(), LaunchError> {
    let place = bind::place_for(root, &request.target, Kind::Folder)?;
    let target = request.target.display();
    let context = FsContext::open(c"tmpfs").at(Stage::Binds, || "open a tmpfs")?;
    for (key, value) in &request.options {
        let set = || {
            let key = CString::new(key.as_str()).map_err(|_| Errno::EINVAL)?;
            let value = CString::new(value.as_str()).map_err(|_| Errno::EINVAL)?;
            context.set(&key, &value)
        };
        set().at(Stage::Binds, || {
            format!("mount a tmpfs at {target} with {key}={value}")
        })?;
    }
    let mounted = context.mount(flags_of(request));
    mounted
        .and_then(|mount| attach(mount.as_fd(), place.as_fd()))
        .at(Stage::Binds, || format!("mount a tmpfs at {target}"))
}

fn flags_of(request: &TmpfsPlan) -> MountFlags {
    [
        (request.read_only, MountFlags::READ_ONLY),
        (!request.exec, MountFlags::NO_EXEC),
        (!request.suid, MountFlags::NO_SUID),
        (!request.dev, MountFlags::NO_DEV),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    .fold(MountFlags::NONE, |all, (_, flag)| all | flag)
}
