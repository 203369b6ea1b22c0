//! The program of the image `hello`: tells what a container looks like from
//! inside. It is compiled by `build.rs` for Linux, static, with nothing but
//! the standard library, and travels within isolazi.
//!
//! What cannot be read is shown as unknown: this runs in all kinds of
//! containers, and its exit status only says whether it could run at all.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};

fn main() {
    let report = report(&System);
    // Nobody may be listening; that is no failure of the container.
    let _ = io::stdout().write_all(report.as_bytes());
}

/// Where the files of /proc and /sys come from.
trait Files {
    /// A file's text without the newline at its end.
    fn text(&self, path: &str) -> Option<String>;
    /// What a symbolic link says.
    fn link(&self, path: &str) -> Option<String>;
}

struct System;

impl Files for System {
    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim_end().to_owned())
    }

    fn link(&self, path: &str) -> Option<String> {
        Some(fs::read_link(path).ok()?.to_str()?.to_owned())
    }
}

const UNKNOWN: &str = "unknown";
/// Spaces in front of a second line.
const INDENT: &str = "                 ";
const LINE: usize = 79;

fn report(files: &dyn Files) -> String {
    let status = Status(files.text("/proc/self/status").unwrap_or_default());
    let rows = [
        ("process", process(&status)),
        ("host name", read(files, "/proc/sys/kernel/hostname")),
        ("user", user(files, &status)),
        ("kernel", kernel(files)),
        ("machine", machine(files).to_owned()),
        ("root", root(files)),
        ("namespaces", namespaces(files)),
        ("capabilities", capabilities(&status)),
        ("no new privs", no_new_privileges(&status).to_owned()),
        ("seccomp", seccomp(&status)),
        ("limits", limits(files)),
    ];
    let mut report = "Hello from isolazi!\n\n\
        This program runs in a container. From inside, it sees:\n\n"
        .to_owned();
    for (name, value) in rows {
        let _ = writeln!(report, "  {name:<13}  {}", wrapped(&value));
    }
    report.push_str("\nNext, try an image of a registry:  isolazi run -it alpine sh\n");
    report
}

/// Breaks a long value between words.
fn wrapped(value: &str) -> String {
    let mut text = String::new();
    let mut column = INDENT.len();
    for word in value.split(' ') {
        if column > INDENT.len() && column + 1 + word.len() > LINE {
            text.push('\n');
            text.push_str(INDENT);
            column = INDENT.len();
        } else if column > INDENT.len() {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text
}

fn read(files: &dyn Files, path: &str) -> String {
    files.text(path).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// `/proc/self/status`, see proc_pid_status(5).
struct Status(String);

impl Status {
    /// The words of a field.
    fn field(&self, name: &str) -> Option<Vec<&str>> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.split_whitespace().collect())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.field(name)?.first().copied()
    }
}

fn process(status: &Status) -> String {
    match (status.first("Pid"), status.first("PPid")) {
        (Some(pid), Some("0")) => format!("PID {pid}, with no parent in here"),
        (Some(pid), Some(parent)) => format!("PID {pid}, child of {parent}"),
        _ => UNKNOWN.to_owned(),
    }
}

fn user(files: &dyn Files, status: &Status) -> String {
    let id = |field: &str| status.first(field).unwrap_or(UNKNOWN).to_owned();
    let (uid, gid) = (id("Uid"), id("Gid"));
    let named = |id: &str, path: &str| match name_of(files, path, id) {
        Some(name) => format!("{id} ({name})"),
        None => id.to_owned(),
    };
    let (uid, gid) = (named(&uid, "/etc/passwd"), named(&gid, "/etc/group"));
    format!("uid {uid}, gid {gid}")
}

/// The name that passwd(5) or group(5) gives to a number.
fn name_of(files: &dyn Files, path: &str, id: &str) -> Option<String> {
    let text = files.text(path)?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = lines.find(|fields| fields.get(2) == Some(&id))?;
    Some(entry.first()?.to_string())
}

fn kernel(files: &dyn Files) -> String {
    let release = read(files, "/proc/sys/kernel/osrelease");
    format!("Linux {release}, {}", std::env::consts::ARCH)
}

/// The kernel of isolazi's own guest says so in its release.
fn machine(files: &dyn Files) -> &'static str {
    match files.text("/proc/sys/kernel/osrelease") {
        Some(release) if release.ends_with("-isolazi") => "isolazi's virtual machine",
        Some(_) => "this computer's own kernel, no virtual machine of isolazi's",
        None => UNKNOWN,
    }
}

/// The type of the root's file system, see proc_pid_mountinfo(5).
fn root(files: &dyn Files) -> String {
    let mounts = files.text("/proc/self/mountinfo").unwrap_or_default();
    let root = mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .rfind(|(mount, _)| mount.split(' ').nth(4) == Some("/"));
    let Some((mount, source)) = root else {
        return UNKNOWN.to_owned();
    };
    let kind = source.split(' ').next().unwrap_or(UNKNOWN);
    let options = mount.split(' ').nth(5).unwrap_or_default();
    match options.split(',').any(|option| option == "ro") {
        true => format!("{kind}, read-only"),
        false => format!("{kind}, writable"),
    }
}

/// Namespaces and the numbers of those that the kernel starts with
/// (include/uapi/linux/nsfs.h; those of mnt and net only since Linux 6.18).
const NAMESPACES: [(&str, u64); 8] = [
    ("mnt", 0xefff_fff8),
    ("pid", 0xefff_fffc),
    ("net", 0xefff_fff9),
    ("ipc", 0xefff_ffff),
    ("uts", 0xefff_fffe),
    ("cgroup", 0xefff_fffb),
    ("user", 0xefff_fffd),
    ("time", 0xefff_fffa),
];

fn namespaces(files: &dyn Files) -> String {
    let (mut own, mut first) = (Vec::new(), Vec::new());
    for (name, initial) in NAMESPACES {
        let link = files.link(&format!("/proc/self/ns/{name}"));
        let number = link.as_deref().and_then(|link| {
            let digits = link.split_once('[')?.1.strip_suffix(']')?;
            digits.parse::<u64>().ok()
        });
        match number {
            Some(number) if number == initial => first.push(name.to_owned()),
            Some(number) => own.push(format!("{name}:{number}")),
            None => {}
        }
    }
    let mut text = own.join(" ");
    if !first.is_empty() {
        let _ = write!(text, "; the machine's: {}", first.join(" "));
    }
    text
}

/// By bit, see capabilities(7).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

fn capabilities(status: &Status) -> String {
    let bits = status.first("CapEff");
    let Some(bits) = bits.and_then(|bits| u64::from_str_radix(bits, 16).ok()) else {
        return UNKNOWN.to_owned();
    };
    let names = CAPABILITIES.iter().enumerate();
    let held = names.filter(|(bit, _)| bits & (1 << bit) != 0);
    let names: Vec<_> = held.map(|(_, name)| *name).collect();
    match names.len() {
        0 => "none".to_owned(),
        41 => "all of them".to_owned(),
        count => format!("{count}: {}", names.join(" ")),
    }
}

fn no_new_privileges(status: &Status) -> &'static str {
    match status.first("NoNewPrivs") {
        Some("0") => "no: setuid programs work",
        Some(_) => "yes: nothing in here gains more rights than it has",
        None => UNKNOWN,
    }
}

fn seccomp(status: &Status) -> String {
    let filters = status.first("Seccomp_filters");
    match (status.first("Seccomp"), filters) {
        (Some("0"), _) => "off".to_owned(),
        (Some("1"), _) => "strict".to_owned(),
        (Some("2"), Some("1")) => "filtered by 1 program".to_owned(),
        (Some("2"), Some(count)) => format!("filtered by {count} programs"),
        (Some("2"), None) => "filtered".to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// Limits of this control group, of version 2 or 1.
fn limits(files: &dyn Files) -> String {
    let version = match files.text("/sys/fs/cgroup/cgroup.controllers") {
        Some(_) => "v2",
        None => "v1",
    };
    let first = |paths: [&str; 2]| {
        let mut paths = paths.iter();
        paths.find_map(|path| files.text(&format!("/sys/fs/cgroup/{path}")))
    };
    let pids = first(["pids.max", "pids/pids.max"]);
    let memory = first(["memory.max", "memory/memory.limit_in_bytes"]);
    let values = [
        ("pids", limit(pids, str::to_owned)),
        ("memory", limit(memory, size)),
        ("CPU", cpu(files)),
    ];
    if values.iter().all(|(_, value)| value.is_none()) {
        return UNKNOWN.to_owned();
    }
    let shown = values.map(|(what, value)| match value {
        Some(value) => format!("{what} {value}"),
        None => format!("{what} {UNKNOWN}"),
    });
    format!("{} (cgroup {version})", shown.join(", "))
}

const UNLIMITED: &str = "unlimited";

fn limit(text: Option<String>, show: impl Fn(&str) -> String) -> Option<String> {
    match text?.as_str() {
        "max" => Some(UNLIMITED.to_owned()),
        value => Some(show(value)),
    }
}

/// Version 1 has no word for no limit, only a number that nothing reaches.
fn size(bytes: &str) -> String {
    const MIB: u64 = 1 << 20;
    match bytes.parse::<u64>() {
        Ok(bytes) if bytes > 1 << 60 => UNLIMITED.to_owned(),
        Ok(bytes) if bytes >= MIB => format!("{} MiB", bytes / MIB),
        _ => format!("{bytes} bytes"),
    }
}

/// `cpu.max` is quota and period; version 1 has a file for each.
fn cpu(files: &dyn Files) -> Option<String> {
    let text = files.text("/sys/fs/cgroup/cpu.max").or_else(|| {
        let quota = files.text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let period = files.text("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
        Some(format!("{quota} {period}"))
    })?;
    let (quota, period) = text.split_once(' ')?;
    match (quota.parse::<i64>(), period.parse::<i64>()) {
        (Ok(quota), Ok(period)) if quota > 0 && period > 0 => {
            Some(format!("{:.2} processors", quota as f64 / period as f64))
        }
        _ => Some(UNLIMITED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Fake(HashMap<&'static str, &'static str>);

    impl Files for Fake {
        fn text(&self, path: &str) -> Option<String> {
            self.0.get(path).map(|text| (*text).to_owned())
        }

        fn link(&self, path: &str) -> Option<String> {
            self.text(path)
        }
    }

    fn guest() -> Fake {
        Fake(HashMap::from([
            (
                "/proc/self/status",
                "Name:\thello\nPid:\t1\nPPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t65534\t0\t0\t0\n\
                 CapEff:\t0000000000000021\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2",
            ),
            ("/proc/sys/kernel/hostname", "3f2a"),
            ("/proc/sys/kernel/osrelease", "6.12.1-isolazi"),
            (
                "/proc/self/mountinfo",
                "1 2 0:3 / / rw - ext4 x rw\n4 1 0:5 / / ro,relatime - overlay overlay rw\n\
                 6 1 0:7 / /proc rw - proc proc rw",
            ),
            ("/proc/self/ns/pid", "pid:[4026532200]"),
            ("/proc/self/ns/user", "user:[4026531837]"),
            ("/etc/passwd", "root:x:0:0::/:\nnobody:x:65534:65534::/:"),
            ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids"),
            ("/sys/fs/cgroup/pids.max", "2048"),
            ("/sys/fs/cgroup/memory.max", "max"),
            ("/sys/fs/cgroup/cpu.max", "150000 100000"),
        ]))
    }

    #[test]
    fn the_report_says_what_the_files_say() {
        let report = report(&guest());
        for line in [
            "  process        PID 1, with no parent in here\n",
            "  host name      3f2a\n",
            "  user           uid 0 (root), gid 65534\n",
            "  machine        isolazi's virtual machine\n",
            "  root           overlay, read-only\n",
            "  namespaces     pid:4026532200; the machine's: user\n",
            "  capabilities   2: chown kill\n",
            "  seccomp        filtered by 2 programs\n",
            "  limits         pids 2048, memory unlimited, CPU 1.50 processors (cgroup v2)\n",
        ] {
            assert!(report.contains(line), "{line}\n{report}");
        }
    }

    #[test]
    fn limits_of_the_first_version_are_read_too() {
        let files = Fake(HashMap::from([
            ("/sys/fs/cgroup/pids/pids.max", "max"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
        ]));
        let expected = "pids unlimited, memory 64 MiB, CPU unlimited (cgroup v1)";
        assert_eq!(limits(&files), expected);
        assert_eq!(size("9223372036854771712"), "unlimited");
    }

    #[test]
    fn without_any_file_it_still_reports() {
        let report = report(&Fake(HashMap::new()));
        assert!(report.contains("user           uid unknown, gid unknown"));
        assert!(report.lines().all(|line| line.len() <= LINE));
    }

    #[test]
    fn it_runs_here() {
        main();
    }
}
