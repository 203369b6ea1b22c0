//! What a control group has used, by the files of either version (cgroup-v2.rst
//! and cgroup-v1/ of the kernel's documentation).

use std::fs;
use std::path::Path;

use super::{Cgroup, Hierarchy};

/// What a group has used so far. What the machine does not account for is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu_time: u64,
    /// Memory in bytes, without the page cache that nothing has used lately.
    pub memory: u64,
    /// Most memory, where there is a limit.
    pub memory_limit: Option<u64>,
    /// Bytes read from and written to block devices.
    pub block: Option<(u64, u64)>,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// What the group has used so far.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_time: self.cpu_time().unwrap_or(0),
            memory: self.memory().unwrap_or(0),
            memory_limit: self.memory_limit(),
            block: self.block(),
            pids: self
                .of("pids")
                .and_then(|it| number(&it.folder, "pids.current"))
                .unwrap_or(0),
        }
    }

    /// The hierarchy that accounts for something: a v1 one of the controller,
    /// or else the unified one.
    fn of(&self, controller: &str) -> Option<&Hierarchy> {
        let hierarchies = self.hierarchies.iter();
        let mut v1 = hierarchies.clone().filter(|it| it.controls(controller));
        v1.next()
            .or_else(|| hierarchies.clone().find(|it| it.is_unified()))
    }

    fn cpu_time(&self) -> Option<u64> {
        let group = self.of("cpuacct")?;
        match group.is_unified() {
            true => keyed(&group.folder, "cpu.stat", "usage_usec").map(|usec| usec * 1000),
            false => number(&group.folder, "cpuacct.usage"),
        }
    }

    fn memory(&self) -> Option<u64> {
        let group = self.of("memory")?;
        let (file, idle) = match group.is_unified() {
            true => ("memory.current", "inactive_file"),
            false => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        let idle = keyed(&group.folder, "memory.stat", idle).unwrap_or(0);
        Some(number(&group.folder, file)?.saturating_sub(idle))
    }

    fn memory_limit(&self) -> Option<u64> {
        let group = self.of("memory")?;
        let file = match group.is_unified() {
            true => "memory.max",
            false => "memory.limit_in_bytes",
        };
        number(&group.folder, file)
    }

    fn block(&self) -> Option<(u64, u64)> {
        let group = self.of("blkio")?;
        match group.is_unified() {
            true => Some(io_stat(&read(&group.folder, "io.stat")?)),
            false => Some(service_bytes(&read(
                &group.folder,
                "blkio.throttle.io_service_bytes",
            )?)),
        }
    }
}

fn read(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join(file)).ok()
}

/// The number in a file; `None` for `max`.
fn number(folder: &Path, file: &str) -> Option<u64> {
    read(folder, file)?.trim().parse().ok()
}

/// The number after a word in a file of such lines.
pub(super) fn keyed(folder: &Path, file: &str, key: &str) -> Option<u64> {
    let text = read(folder, file)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

/// `8:0 rbytes=1 wbytes=2 rios=…` for each device.
fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`, `8:0 Write 2`, … for each device.
fn service_bytes(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == kind).then(|| words.next()?.parse::<u64>().ok())?
        });
        lines.sum()
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(controllers: &[&str], files: &[(&str, &str)]) -> (tempfile::TempDir, Hierarchy) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let hierarchy = Hierarchy {
            name: controllers.join(","),
            folder: folder.path().to_owned(),
            controllers: controllers.iter().map(|it| (*it).to_owned()).collect(),
        };
        (folder, hierarchy)
    }

    fn usage(hierarchies: Vec<Hierarchy>) -> Usage {
        let warnings = Vec::new();
        Cgroup {
            hierarchies,
            warnings,
        }
        .usage()
    }

    #[test]
    fn the_unified_hierarchy_accounts_for_everything() {
        let (_folder, unified) = group(
            &[],
            &[
                ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
                ("memory.current", "1000\n"),
                ("memory.stat", "anon 1\ninactive_file 300\n"),
                ("memory.max", "max\n"),
                (
                    "io.stat",
                    "8:0 rbytes=1 wbytes=2 rios=9\n8:16 rbytes=3 wbytes=4\n",
                ),
                ("pids.current", "7\n"),
            ],
        );
        let expected = Usage {
            cpu_time: 5000,
            memory: 700,
            memory_limit: None,
            block: Some((4, 6)),
            pids: 7,
        };
        assert_eq!(usage(vec![unified]), expected);
    }

    #[test]
    fn older_hierarchies_account_each_for_their_own() {
        let (_a, cpu) = group(&["cpu", "cpuacct"], &[("cpuacct.usage", "42\n")]);
        let (_b, memory) = group(
            &["memory"],
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.stat", "total_inactive_file 2000\n"),
                ("memory.limit_in_bytes", "4096\n"),
            ],
        );
        let (_c, block) = group(
            &["blkio"],
            &[(
                "blkio.throttle.io_service_bytes",
                "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
            )],
        );
        let (_d, unified) = group(&[], &[]);
        let expected = Usage {
            cpu_time: 42,
            memory: 0,
            memory_limit: Some(4096),
            block: Some((1, 2)),
            pids: 0,
        };
        assert_eq!(usage(vec![cpu, memory, block, unified]), expected);
    }

    #[test]
    fn what_is_not_accounted_for_is_zero() {
        assert_eq!(usage(vec![]), Usage::default());
    }
}
