//! Volumes that are empty get what the image has in their place.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::launch::error::{At, LaunchError, Stage};
use crate::launch::plan::FillPlan;
use crate::launch::resolve::Root;
use crate::volume;

/// Fills each, from a `root` in which nothing is mounted yet. Only the first
/// start of a container does it: what was emptied later is meant to be empty.
pub(super) fn fill(root: &Root, fills: &[FillPlan]) -> Result<(), LaunchError> {
    for plan in fills.iter().filter(|plan| !plan.done.exists()) {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let source = match root.open(&plan.source, flags) {
            // There is nothing, or no folder, to fill it with.
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            other => other.at(Stage::Binds, || {
                format!("open the image's {}", plan.source.display())
            })?,
        };
        volume::fill(&plan.volume, source.as_fd()).map_err(|error| LaunchError {
            stage: Stage::Binds,
            errno: error.raw_os_error().map(Errno::from_raw),
            detail: match error.raw_os_error() {
                Some(_) => describe(plan),
                None => format!("{}: {error}", describe(plan)),
            },
        })?;
    }
    if let Some(plan) = fills.first() {
        // Without it the next start looks again, and finds them filled.
        let _ = File::create(&plan.done);
    }
    Ok(())
}

fn describe(plan: &FillPlan) -> String {
    format!(
        "cannot fill the volume for {} from the image",
        plan.source.display()
    )
}
