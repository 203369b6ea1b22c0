//! The limits that somebody asked for: which files of which controller they
//! are, in either version (cgroup-v2.rst and cgroup-v1/ of the kernel's
//! documentation).
//!
//! A limit that a machine cannot keep is an error, and not a warning as where
//! it is our own default: who asked for it counts on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isolazi_protocol::CgroupLimits;

use super::setting::{Setting, Write, apply, controller_of, missing, write};
use super::{Hierarchy, LimitError, legacy, limits, place, rates};
use crate::sys::idmap::is_nested;
use crate::systemd;

/// Microseconds of a period where nobody says.
const PERIOD: u64 = 100_000;
/// What no limit is, to v1.
const UNLIMITED_V1: &str = "-1";
const ONLINE: &str = "/sys/devices/system/cpu/online";
const NODES: &str = "/sys/devices/system/node/has_memory";

/// All limits that both versions have.
fn all_settings(limits: &CgroupLimits, v2: bool) -> Result<Vec<Setting>, LimitError> {
    let mut all = settings(limits, v2);
    all.extend(rates::settings(limits, v2)?);
    Ok(all)
}

/// Those of them that say what they are to be without asking the machine.
fn settings(limits: &CgroupLimits, v2: bool) -> Vec<Setting> {
    [
        memory(limits, v2),
        reservation(limits, v2),
        cpu(limits, v2),
        weight(limits, v2),
        cpuset(limits),
        memory_nodes(limits),
        io_weight(limits, v2),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn memory(limits: &CgroupLimits, v2: bool) -> Option<Setting> {
    let memory = limits.memory?;
    // Docker's default.
    let both = limits.memory_swap.unwrap_or(memory.saturating_mul(2));
    let optional = limits.memory_swap.is_none();
    let unlimited = both == u64::MAX;
    let swap = |files, value: String| Write {
        optional,
        ..write(files, value)
    };
    let writes = match v2 {
        true => {
            let value = match unlimited {
                true => "max".to_owned(),
                false => (both - memory).to_string(),
            };
            vec![
                write(&["memory.max"], memory),
                swap(&["memory.swap.max"], value),
            ]
        }
        false => {
            const BOTH: &[&str] = &["memory.memsw.limit_in_bytes"];
            let value = match unlimited {
                true => UNLIMITED_V1.to_owned(),
                false => both.to_string(),
            };
            // It is never to be less than the memory alone.
            vec![
                Write {
                    optional: true,
                    ..write(BOTH, UNLIMITED_V1)
                },
                write(&["memory.limit_in_bytes"], memory),
                swap(BOTH, value),
            ]
        }
    };
    Some(Setting {
        what: "memory",
        option: if optional {
            "--memory"
        } else {
            "--memory-swap"
        },
        controller: "memory",
        writes,
    })
}

fn reservation(limits: &CgroupLimits, v2: bool) -> Option<Setting> {
    let files: &[&str] = match v2 {
        true => &["memory.low"],
        false => &["memory.soft_limit_in_bytes"],
    };
    Some(Setting {
        what: "the reservation of memory",
        option: "--memory-reservation",
        controller: "memory",
        writes: vec![write(files, limits.memory_reservation?)],
    })
}

fn cpu(limits: &CgroupLimits, v2: bool) -> Option<Setting> {
    let period = limits.cpu_period.unwrap_or(PERIOD);
    let of_cpus = |nano: u64| (u128::from(nano) * u128::from(period) / 1_000_000_000) as u64;
    let quota = limits.nano_cpus.map(of_cpus).or(limits.cpu_quota);
    if quota.is_none() && limits.cpu_period.is_none() {
        return None;
    }
    let writes = match v2 {
        true => {
            let quota = quota.map_or("max".to_owned(), |it| it.to_string());
            vec![write(&["cpu.max"], format!("{quota} {period}"))]
        }
        false => {
            let quota = quota.map_or(UNLIMITED_V1.to_owned(), |it| it.to_string());
            vec![
                write(&["cpu.cfs_period_us"], period),
                write(&["cpu.cfs_quota_us"], quota),
            ]
        }
    };
    let option = match limits.nano_cpus {
        Some(_) => "--cpus",
        None => "--cpu-quota and --cpu-period",
    };
    Some(Setting {
        what: "processor time",
        option,
        controller: "cpu",
        writes,
    })
}

fn weight(limits: &CgroupLimits, v2: bool) -> Option<Setting> {
    // The default is 100 in v2 and 1024 in v1, where shares are from 2 to 262144.
    let (weight, shares, option) = match (limits.cpu_weight, limits.cpu_shares) {
        (Some(weight), _) => {
            let shares = (weight * 1024 / 100).clamp(2, 262_144);
            (weight, shares, "--cpu-weight")
        }
        (None, Some(shares)) => (weight_of(shares, 2, 262_144), shares, "--cpu-shares"),
        (None, None) => return None,
    };
    let write = match v2 {
        true => write(&["cpu.weight"], weight),
        false => write(&["cpu.shares"], shares),
    };
    Some(Setting {
        what: "the share of the processors",
        option,
        controller: "cpu",
        writes: vec![write],
    })
}

/// v2's weight, 1 to 10000, for v1's value between `least` and `most`: as runc
/// has it, one range becomes the other.
fn weight_of(old: u64, least: u64, most: u64) -> u64 {
    1 + old.saturating_sub(least) * 9_999 / (most - least)
}

fn cpuset(limits: &CgroupLimits) -> Option<Setting> {
    Some(Setting {
        what: "the processors",
        option: "--cpuset-cpus",
        controller: "cpuset",
        writes: vec![write(&["cpuset.cpus"], limits.cpuset_cpus.as_ref()?)],
    })
}

fn memory_nodes(limits: &CgroupLimits) -> Option<Setting> {
    Some(Setting {
        what: "the memory nodes",
        option: "--cpuset-mems",
        controller: "cpuset",
        writes: vec![write(&["cpuset.mems"], limits.cpuset_mems.as_ref()?)],
    })
}

/// Whether there has to be a group of v1's cpuset controller.
pub(super) fn needs_cpuset(limits: &CgroupLimits) -> bool {
    limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some()
}

/// BFQ, a scheduler of block devices, knows weights up to 1000 only.
fn io_weight(limits: &CgroupLimits, v2: bool) -> Option<Setting> {
    // The default is 100 in v2 and 500 in v1, where weights are from 10 to 1000.
    let (weight, old, option) = match (limits.io_weight, limits.blkio_weight) {
        (Some(weight), _) => (weight, weight.clamp(10, 1000), "--io-weight"),
        (None, Some(old)) => (weight_of(old, 10, 1000), old, "--blkio-weight"),
        (None, None) => return None,
    };
    let (files, weight, controller): (&'static [&'static str], _, _) = match v2 {
        true => (&["io.weight", "io.bfq.weight"], weight, "io"),
        false => (&["blkio.bfq.weight", "blkio.weight"], old, "blkio"),
    };
    Some(Setting {
        what: "the share of the block devices",
        option,
        controller,
        writes: vec![write(files, weight)],
    })
}

/// Whether this machine can keep the limits, as far as that shows before there
/// is a group.
pub fn check(limits: &CgroupLimits) -> Result<(), LimitError> {
    if *limits == CgroupLimits::default() {
        return Ok(());
    }
    check_cpus(limits, &fs::read_to_string(ONLINE).unwrap_or_default())?;
    check_nodes(limits, &fs::read_to_string(NODES).unwrap_or_default())?;
    // Any name will do to ask where it would be.
    let hierarchies = place::own_hierarchies("isolazi");
    let unified = hierarchies.iter().find(|it| it.is_unified());
    let available = |controller: &str| {
        let base = unified.and_then(|it| it.folder.parent());
        let list = base.and_then(|it| fs::read_to_string(it.join("cgroup.controllers")).ok());
        list.is_some_and(|list| list.split_whitespace().any(|it| it == controller))
    };
    let settings = all_settings(limits, true)?;
    if is_nested() && systemd::is_there() {
        // Whether the user gets a group shows when the container's shim asks for it.
        return Ok(());
    }
    for setting in settings {
        let old = match setting.controller {
            "io" => "blkio",
            other => other,
        };
        if !hierarchies.iter().any(|it| it.controls(old)) && !available(setting.controller) {
            return Err(missing(&setting, controller_of(&setting)));
        }
    }
    Ok(())
}

fn check_cpus(limits: &CgroupLimits, online: &str) -> Result<(), LimitError> {
    let there = cpu_list(online.trim()).unwrap_or_default();
    if there.is_empty() {
        return Ok(());
    }
    if let Some(nano) = limits.nano_cpus
        && nano > there.len() as u64 * 1_000_000_000
    {
        return Err(LimitError::TooManyCpus {
            asked: nano as f64 / 1e9,
            there: there.len(),
        });
    }
    let asked = limits.cpuset_cpus.as_deref().unwrap_or_default();
    let wanted = cpu_list(asked).unwrap_or_default();
    match wanted.iter().all(|cpu| there.contains(cpu)) {
        true => Ok(()),
        false => Err(LimitError::NoSuchCpus {
            asked: asked.to_owned(),
            there: online.trim().to_owned(),
        }),
    }
}

fn check_nodes(limits: &CgroupLimits, there: &str) -> Result<(), LimitError> {
    // A kernel that knows of none has one.
    let there = match there.trim() {
        "" => "0",
        list => list,
    };
    let asked = limits.cpuset_mems.as_deref().unwrap_or_default();
    let known = cpu_list(there).unwrap_or_default();
    let wanted = cpu_list(asked).unwrap_or_default();
    match wanted.iter().all(|node| known.contains(node)) {
        true => Ok(()),
        false => Err(LimitError::NoSuchNodes {
            asked: asked.to_owned(),
            there: there.to_owned(),
        }),
    }
}

/// The numbers of a list such as `0-2,5` (cpuset(7)), each below 8192.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 8192;
    let number = |text: &str| text.parse::<u32>().ok().filter(|it| *it < MOST);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Sets all of them in a container's groups. What was set before a failure stays.
pub(super) fn set(
    hierarchies: &[Hierarchy],
    wanted: &CgroupLimits,
    warnings: &mut Vec<String>,
) -> Result<(), LimitError> {
    let (old, new) = (all_settings(wanted, false)?, all_settings(wanted, true)?);
    for (old, new) in old.iter().zip(&new) {
        let legacy = hierarchies.iter().find(|it| it.controls(old.controller));
        if let Some(legacy) = legacy {
            if old.controller == "cpuset" {
                fill_cpuset(&legacy.folder).map_err(|source| LimitError::Refused {
                    what: old.what,
                    value: "those of its parent".to_owned(),
                    source,
                })?;
            }
            apply(old, &legacy.folder)?;
            continue;
        }
        match limits::folder_of(hierarchies, new.controller) {
            Some((folder, _)) => apply(new, folder)?,
            None => return Err(missing(new, controller_of(new))),
        }
    }
    legacy::set(hierarchies, wanted, warnings)
}

/// A new group of v1's takes no process before it is told what it may use: what
/// the one above it may, which may be as new.
fn fill_cpuset(folder: &Path) -> io::Result<()> {
    let above = folder.ancestors().map(Path::to_owned);
    let above: Vec<PathBuf> = above
        .take_while(|it| it.join("cpuset.cpus").exists())
        .collect();
    for pair in above.windows(2).rev() {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(pair[0].join(file))?.trim().is_empty() {
                fs::write(pair[0].join(file), fs::read_to_string(pair[1].join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Changes the limits of the groups named `path`, whose processes run.
pub fn update(path: &str, pids_limit: u64, wanted: &CgroupLimits) -> Result<(), LimitError> {
    let mut hierarchies = place::find(path);
    if needs_cpuset(wanted) {
        join_cpuset(path, &mut hierarchies, wanted)?;
    }
    // What does not apply was said when it started.
    set(&hierarchies, wanted, &mut Vec::new())?;
    limits::limit_pids(&hierarchies, pids_limit).map_err(|why| LimitError::Refused {
        what: "the number of processes",
        value: pids_limit.to_string(),
        source: io::Error::other(why),
    })
}

/// v1's group of processors is made only where it is asked for: here by then
/// there are processes that are to move into it.
fn join_cpuset(
    path: &str,
    hierarchies: &mut Vec<Hierarchy>,
    wanted: &CgroupLimits,
) -> Result<(), LimitError> {
    let refused = |source| LimitError::Refused {
        what: "the processors",
        value: wanted.cpuset_cpus.clone().unwrap_or_default(),
        source,
    };
    let is_cpuset = |it: &Hierarchy| it.controls("cpuset");
    let own = place::own_hierarchies(path).into_iter().find(is_cpuset);
    let Some(group) = own.filter(|_| !hierarchies.iter().any(is_cpuset)) else {
        return Ok(());
    };
    let Some(other) = hierarchies.first().map(|it| it.folder.clone()) else {
        return Ok(());
    };
    place::make_folder(&group.folder).map_err(refused)?;
    fill_cpuset(&group.folder).map_err(refused)?;
    // Twice, for what is born meanwhile.
    for _ in 0..2 {
        let processes = fs::read_to_string(other.join("cgroup.procs")).map_err(refused)?;
        for pid in processes.lines() {
            // One that has ended in the meantime needs no place.
            let _ = fs::write(group.folder.join("cgroup.procs"), pid);
        }
    }
    hierarchies.push(group);
    Ok(())
}

/// Whether the kernel has killed something of the groups named `path` for want
/// of memory.
pub fn has_killed(path: &str) -> bool {
    let hierarchies = place::find(path);
    let legacy = hierarchies.iter().find(|it| it.controls("memory"));
    let (folder, file) = match legacy {
        Some(legacy) => (&legacy.folder, "memory.oom_control"),
        None => match hierarchies.iter().find(|it| it.is_unified()) {
            Some(unified) => (&unified.folder, "memory.events"),
            None => return false,
        },
    };
    super::usage::keyed(folder, file, "oom_kill").is_some_and(|count| count > 0)
}

#[cfg(test)]
mod tests;
