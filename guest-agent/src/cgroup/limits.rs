//! The limits of a container's cgroup, each by the controller it belongs to.

use std::path::Path;

use cgroups_rs::MaxValue;
use cgroups_rs::pid::PidController;

use super::{Hierarchy, LimitError, devices};
use crate::launch::plan::{CgroupPlan, DevicesPlan};
use crate::sys::idmap::is_nested;

/// Controllers of v2 that tell what a container uses also where it has no
/// limit. (Those of v1 always do.)
const ACCOUNTING: [&str; 3] = ["memory", "cpu", "io"];

/// Sets all of the plan's limits, and says of each that could not be.
///
/// # Errors
/// When devices cannot be limited and nothing else would keep the container from them.
pub(super) fn set(
    hierarchies: &[Hierarchy],
    plan: &CgroupPlan,
    warnings: &mut Vec<String>,
) -> Result<(), LimitError> {
    if hierarchies.is_empty() && is_nested() {
        // Our own limits are none that a user without cgroups would miss.
        return Ok(());
    }
    if let Some(unified) = hierarchies.iter().find(|it| it.is_unified()) {
        for controller in ACCOUNTING {
            // A machine without it has nothing to tell.
            enable(&unified.folder, controller);
        }
    }
    let mut note = |what: &str, done: Result<(), String>| {
        if let Err(why) = done {
            warnings.push(format!("{what} does not apply: {why}"));
        }
    };
    note(
        "the limit of processes",
        limit_pids(hierarchies, plan.pids_limit),
    );
    if is_nested() {
        // Device files that somebody makes in a user namespace cannot be opened.
        return Ok(());
    }
    match limit_devices(hierarchies, &plan.devices) {
        Err(why) if plan.devices.needed => return Err(LimitError::Devices(why)),
        done => note("the limit of devices", done),
    }
    Ok(())
}

/// The folder in which `controller` is set, by v1's and v2's name of it, and
/// whether that is v2.
pub(super) fn folder_of<'a>(
    hierarchies: &'a [Hierarchy],
    controller: &str,
) -> Option<(&'a Path, bool)> {
    let legacy = hierarchies.iter().find(|it| it.controls(controller));
    let unified = || {
        let unified = hierarchies.iter().find(|it| it.is_unified())?;
        enable(&unified.folder, controller).then_some((unified.folder.as_path(), true))
    };
    legacy
        .map(|it| (it.folder.as_path(), false))
        .or_else(unified)
}

/// Makes a controller of v2 available in `folder`, by enabling it in the
/// groups above. Whether it is.
fn enable(folder: &Path, controller: &str) -> bool {
    let available = || {
        std::fs::read_to_string(folder.join("cgroup.controllers"))
            .is_ok_and(|list| list.split_whitespace().any(|it| it == controller))
    };
    if available() {
        return true;
    }
    let switches = folder
        .ancestors()
        .skip(1)
        .map(|group| group.join("cgroup.subtree_control"));
    let mut switches: Vec<_> = switches.take_while(|switch| switch.exists()).collect();
    switches.reverse();
    for switch in switches {
        // Whether it worked shows in the folder itself.
        let _ = std::fs::write(switch, format!("+{controller}"));
    }
    available()
}

pub(super) fn limit_pids(hierarchies: &[Hierarchy], limit: u64) -> Result<(), String> {
    let (folder, v2) =
        folder_of(hierarchies, "pids").ok_or("this machine has no pids controller")?;
    let limit = i64::try_from(limit).map_or(MaxValue::Max, MaxValue::Value);
    PidController::new(folder.to_owned(), v2)
        .set_pid_max(limit)
        .map_err(|error| error.to_string())
}

fn limit_devices(hierarchies: &[Hierarchy], plan: &DevicesPlan) -> Result<(), String> {
    if plan.open {
        // A new group is as open as the one above it.
        return Ok(());
    }
    let rules = &plan.rules;
    if let Some(legacy) = hierarchies.iter().find(|it| it.controls("devices")) {
        return devices::limit_v1(&legacy.folder, rules).map_err(|error| error.to_string());
    }
    match hierarchies.iter().find(|it| it.is_unified()) {
        Some(unified) => {
            devices::limit_unified(&unified.folder, rules).map_err(|error| error.to_string())
        }
        None => Err("this machine has no devices controller".to_owned()),
    }
}
