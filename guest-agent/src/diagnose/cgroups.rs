//! Which limits the machine's control groups can keep.

use std::fs;

use isolazi_protocol::{Finding, Grade};

use crate::cgroup::{Hierarchy, available};

const SUBJECT: &str = "cgroups";
/// Controllers, and what takes them.
const CONTROLLERS: [(&str, &str); 5] = [
    ("memory", "--memory"),
    ("cpu", "--cpus"),
    ("pids", "--pids-limit"),
    ("io", "--io-weight"),
    ("cpuset", "--cpuset-cpus"),
];

pub(super) fn findings() -> Vec<Finding> {
    let hierarchies = available();
    let controllers = controllers(&hierarchies);
    vec![finding(
        hierarchies.iter().any(|it| !it.is_unified()),
        &controllers,
        nix::unistd::geteuid().is_root() && !crate::sys::idmap::is_nested(),
    )]
}

fn controllers(hierarchies: &[Hierarchy]) -> Vec<String> {
    let mut all = Vec::new();
    for hierarchy in hierarchies {
        if hierarchy.is_unified() {
            // The nearest folder that is there, as ours may not have been made yet.
            let existing = hierarchy.folder.ancestors().find(|it| it.is_dir());
            let file = existing.map(|it| it.join("cgroup.controllers"));
            let text = file.and_then(|it| fs::read_to_string(it).ok());
            all.extend(
                text.unwrap_or_default()
                    .split_whitespace()
                    .map(str::to_owned),
            );
        } else {
            all.extend(hierarchy.name.split(',').map(str::to_owned));
        }
    }
    all
}

fn finding(is_legacy: bool, controllers: &[String], is_root: bool) -> Finding {
    let has = |name: &str| {
        let known = |it: &String| it == name || (name == "io" && it == "blkio");
        controllers.iter().any(known)
    };
    let missing: Vec<_> = CONTROLLERS.iter().filter(|(name, _)| !has(name)).collect();
    let version = match (is_legacy, controllers.is_empty()) {
        (_, true) => "none that may be used".to_owned(),
        (true, _) => "version 1".to_owned(),
        (false, _) => "version 2".to_owned(),
    };
    if missing.is_empty() {
        return Finding::good(SUBJECT, version);
    }
    let options: Vec<_> = missing.iter().map(|(_, option)| *option).collect();
    let remedy = match is_root {
        true => {
            "enable these controllers at the kernel's start, such as by systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory"
        }
        false => {
            "have them delegated: systemctl edit user@.service, and there: [Service] Delegate=cpu cpuset io memory pids"
        }
    };
    Finding::bad(
        SUBJECT,
        Grade::Lacking,
        format!("{version}, without what these take: {}", options.join(", ")),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_missing_controller_is_told_by_the_options_that_take_it() {
        let all = owned(&["memory", "cpu", "pids", "io", "cpuset", "rdma"]);
        assert_eq!(finding(false, &all, true).grade, Grade::Good);
        let old = owned(&["memory", "cpu", "cpuacct", "pids", "blkio", "cpuset"]);
        assert_eq!(finding(true, &old, true).state, "version 1");
        let few = finding(false, &owned(&["memory", "pids", "io"]), false);
        assert_eq!(
            few.state,
            "version 2, without what these take: --cpus, --cpuset-cpus"
        );
        assert!(few.remedy.is_some_and(|it| it.contains("Delegate=")));
        assert_eq!(finding(false, &[], false).grade, Grade::Lacking);
    }
}
