//! The processes of a container, from /proc, where no program is needed.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use isolazi_protocol::ProcessInfo;
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::VisitError;
use super::root::{first_process, short_id};
use crate::cgroup::Cgroup;
use crate::container::ContainerDir;
use crate::sys::process::pidfd_signal;

/// Most processes that are told of, and most bytes of their commands.
const MOST: usize = 8192;
const MOST_COMMAND: usize = 4096;
const MOST_COMMANDS: usize = 1 << 20;

/// The processes of a running container, in the order of their ids.
pub fn processes(dir: &ContainerDir) -> Result<Vec<ProcessInfo>, VisitError> {
    let failed = |action| VisitError::io(action, short_id(dir).as_bytes());
    let not_running = || VisitError::NotRunning(short_id(dir));
    let state = dir.state().map_err(failed("read the state of"))?;
    let pid = state.pid().ok_or_else(not_running)?;
    let init = first_process(dir, pid)?.ok_or_else(not_running)?;
    let cgroup = Cgroup::of_process(Pid::from_raw(pid));
    // What was read is init's only if it had not ended by then.
    pidfd_signal(init.as_fd(), 0).map_err(|_| not_running())?;
    let mut pids = BTreeSet::from([pid]);
    match cgroup.hierarchies().first() {
        Some(hierarchy) => members(&hierarchy.folder, &mut pids),
        None => neighbours(pid, &mut pids),
    }
    let clock = Clock::read();
    let mut left = MOST_COMMANDS;
    let told = pids.into_iter().take(MOST).filter_map(|pid| {
        let process = describe(pid, &clock, left.min(MOST_COMMAND))?;
        left -= process.command.iter().map(String::len).sum::<usize>();
        Some(process)
    });
    Ok(told.collect())
}

/// The processes in a cgroup and those below it.
fn members(folder: &Path, pids: &mut BTreeSet<i32>) {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for inner in crate::cgroup::folders_in(folder) {
        if pids.len() < MOST {
            members(&inner, pids);
        }
    }
}

/// The processes in the same PID namespace.
fn neighbours(pid: i32, pids: &mut BTreeSet<i32>) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(&pid.to_string()) else {
        return;
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let same = names.filter(|name| namespace(name).as_ref() == Some(&own));
    pids.extend(same.filter_map(|name| name.parse::<i32>().ok()).take(MOST));
}

/// What the kernel counts in.
struct Clock {
    ticks_per_second: u64,
    page_size: u64,
    /// When the machine started, nanoseconds since the Unix epoch.
    boot: u64,
}

impl Clock {
    fn read() -> Self {
        let ask = |what| {
            sysconf(what)
                .ok()
                .flatten()
                .unwrap_or(0)
                .max(0)
                .unsigned_abs()
        };
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        Self {
            ticks_per_second: ask(SysconfVar::CLK_TCK).max(1),
            page_size: ask(SysconfVar::PAGE_SIZE),
            boot: boot
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0)
                * 1_000_000_000,
        }
    }

    fn nanos(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Bytes of memory that this process takes; 0 where procfs does not say.
pub fn own_memory() -> u64 {
    let own = describe(std::process::id().cast_signed(), &Clock::read(), 0);
    own.map_or(0, |process| process.resident_memory)
}

/// `None` where it has ended meanwhile.
fn describe(pid: i32, clock: &Clock, most_command: usize) -> Option<ProcessInfo> {
    let folder = format!("/proc/{pid}");
    let stat = fs::read(format!("{folder}/stat")).ok()?;
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let command = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
    let mut process = parse_stat(pid, &String::from_utf8_lossy(&stat), clock)?;
    process.uid = parse_uid(&status)?;
    process.command = parse_command(&command, most_command);
    Some(process)
}

/// proc_pid_stat(5). The name is in parentheses, and may have any in itself.
fn parse_stat(pid: i32, text: &str, clock: &Clock) -> Option<ProcessInfo> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The first field after the name is number 3.
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    Some(ProcessInfo {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        uid: 0,
        terminal: terminal(number(7)?),
        state: fields.first()?.chars().next()?,
        threads: u32::try_from(number(20)?).ok()?,
        started_at: clock.boot.saturating_add(clock.nanos(number(22)?)),
        cpu_time: clock.nanos(number(14)?.saturating_add(number(15)?)),
        virtual_memory: number(23)?,
        resident_memory: number(24)?.saturating_mul(clock.page_size),
        name: name.to_owned(),
        command: Vec::new(),
    })
}

/// A terminal's name by its device number: `pts/1`, `tty2`.
fn terminal(device: u64) -> Option<String> {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    match (major, minor) {
        (0, _) => None,
        (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        _ => Some(format!("{major}:{minor}")),
    }
}

/// The effective user id: the second of `Uid:` in proc_pid_status(5).
fn parse_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn parse_command(bytes: &[u8], most: usize) -> Vec<String> {
    let bytes = &bytes[..bytes.len().min(most)];
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let words = bytes.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_called_anything() {
        let clock = Clock {
            ticks_per_second: 100,
            page_size: 4096,
            boot: 1_000_000_000,
        };
        let text = "7 (a) b (c) S 3 7 7 34817 7 0 0 0 0 0 150 50 0 0 20 0 4 0 200 8192 2 0";
        let process = parse_stat(7, text, &clock).unwrap();
        assert_eq!(process.name, "a) b (c");
        assert_eq!((process.parent, process.state), (3, 'S'));
        assert_eq!(process.terminal.as_deref(), Some("pts/1"));
        assert_eq!(process.cpu_time, 2_000_000_000);
        assert_eq!(process.started_at, 3_000_000_000);
        assert_eq!(process.threads, 4);
        assert_eq!(
            (process.virtual_memory, process.resident_memory),
            (8192, 8192)
        );
        assert!(parse_stat(7, "7 (x", &clock).is_none());
    }

    #[test]
    fn our_own_process_is_described() {
        let process = describe(std::process::id().cast_signed(), &Clock::read(), 4096).unwrap();
        assert_eq!(process.uid, nix::unistd::geteuid().as_raw());
        assert!(!process.command.is_empty());
        let age = crate::container::now().saturating_sub(process.started_at);
        assert!(age < 3600 * 1_000_000_000, "{age}");
        assert!(process.resident_memory > 4096);
    }

    #[test]
    fn commands_are_split_and_cut() {
        assert_eq!(parse_command(b"sh\0-c\0\0", 99), ["sh", "-c", ""]);
        assert_eq!(parse_command(b"sh\0-c\0x y\0", 4), ["sh", "-"]);
        assert_eq!(parse_command(b"", 4), [""; 0]);
    }
}
