//! Limits that only v1 has. Where its memory controller is missing they are
//! warnings, as with Docker: a container without them is no worse than others.

use isolazi_protocol::CgroupLimits;

use super::setting::{Setting, apply, write};
use super::{Hierarchy, LimitError};

fn settings(limits: &CgroupLimits) -> Vec<Setting> {
    let swappiness = limits.memory_swappiness.map(|value| Setting {
        what: "the swapping",
        option: "--memory-swappiness",
        controller: "memory",
        writes: vec![write(&["memory.swappiness"], value)],
    });
    let oom_kill = limits.oom_kill_disable.then(|| Setting {
        what: "the killing",
        option: "--oom-kill-disable",
        controller: "memory",
        writes: vec![write(&["memory.oom_control"], 1)],
    });
    swappiness.into_iter().chain(oom_kill).collect()
}

/// Sets them.
pub(super) fn set(
    hierarchies: &[Hierarchy],
    wanted: &CgroupLimits,
    warnings: &mut Vec<String>,
) -> Result<(), LimitError> {
    let memory = hierarchies.iter().find(|it| it.controls("memory"));
    for setting in settings(wanted) {
        match memory {
            Some(legacy) => apply(&setting, &legacy.folder)?,
            None => warnings.push(format!(
                "{} does not apply: only cgroups v1 has it, and this machine's memory controller is not of v1",
                setting.option
            )),
        }
    }
    if memory.is_some() && wanted.oom_kill_disable && wanted.memory.is_none() {
        warnings.push(
            "--oom-kill-disable without --memory: this machine may run out of memory; set --memory"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_only_v1_has_is_a_warning_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["memory.swappiness", "memory.oom_control"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let limits = CgroupLimits {
            memory_swappiness: Some(0),
            oom_kill_disable: true,
            ..CgroupLimits::default()
        };
        let hierarchy = |controllers: &[&str]| Hierarchy {
            name: "x".to_owned(),
            folder: folder.path().to_owned(),
            controllers: controllers.iter().map(ToString::to_string).collect(),
        };
        let mut warnings = Vec::new();
        set(&[hierarchy(&[])], &limits, &mut warnings).unwrap();
        assert!(
            warnings.len() == 2 && warnings[1].starts_with("--oom-kill-disable does not apply")
        );
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(read("memory.oom_control"), "");
        warnings.clear();
        set(&[hierarchy(&["memory"])], &limits, &mut warnings).unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains("set --memory"),
            "{warnings:?}"
        );
        assert_eq!(
            (read("memory.oom_control"), read("memory.swappiness")),
            ("1".into(), "0".into())
        );
    }
}
