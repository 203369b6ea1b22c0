//! What the kernel is and can do.

use std::fs;

use isolazi_protocol::{Finding, Grade};
use nix::errno::Errno;

use crate::sys::mount::FsContext;

/// The first one with mount_setattr(2), which every container's mounts take.
const OLDEST: (u32, u32) = (5, 12);
/// What containers are kept apart by (namespaces(7)), with the kernel's option.
const NAMESPACES: [(&str, &str); 6] = [
    ("mnt", "NAMESPACES"),
    ("pid", "PID_NS"),
    ("net", "NET_NS"),
    ("ipc", "IPC_NS"),
    ("uts", "UTS_NS"),
    ("cgroup", "CGROUPS"),
];

pub(super) fn findings() -> Vec<Finding> {
    vec![
        version(&read("/proc/sys/kernel/osrelease")),
        namespaces(|name| fs::exists(format!("/proc/self/ns/{name}")).unwrap_or(false)),
        overlay(FsContext::open(c"overlay").map(drop)),
        seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")),
        modules(&read("/sys/kernel/security/lsm")),
        foreign(),
    ]
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let parsed = numbers
        .next()
        .and_then(Result::ok)
        .zip(numbers.next().and_then(Result::ok));
    let state = format!("Linux {release}");
    match parsed {
        Some(version) if version < OLDEST => Finding::bad(
            "kernel",
            Grade::Broken,
            format!("{state} is too old"),
            format!("upgrade it to {}.{} or later", OLDEST.0, OLDEST.1),
        ),
        _ => Finding::good("kernel", state),
    }
}

fn namespaces(has: impl Fn(&str) -> bool) -> Finding {
    let missing: Vec<_> = NAMESPACES.iter().filter(|(name, _)| !has(name)).collect();
    if missing.is_empty() {
        return Finding::good("namespaces", "mount, PID, network, IPC, UTS and cgroup");
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let options: Vec<_> = missing
        .iter()
        .map(|(_, it)| format!("CONFIG_{it}"))
        .collect();
    Finding::bad(
        "namespaces",
        Grade::Broken,
        format!("the kernel has none of these: {}", names.join(", ")),
        format!("use a kernel with {}", options.join(", ")),
    )
}

fn overlay(tried: Result<(), Errno>) -> Finding {
    const SUBJECT: &str = "overlayfs";
    match tried {
        Ok(()) => Finding::good(SUBJECT, "there"),
        Err(Errno::ENODEV) => Finding::bad(
            SUBJECT,
            Grade::Broken,
            "the kernel does not know it",
            "load it with: modprobe overlay (CONFIG_OVERLAY_FS)",
        ),
        Err(errno) => Finding::bad(
            SUBJECT,
            Grade::Broken,
            format!("cannot be used: {}", errno.desc()),
            "run as root, or let users make user namespaces",
        ),
    }
}

fn seccomp(actions: &str) -> Finding {
    const SUBJECT: &str = "seccomp";
    let has = |action| actions.split_whitespace().any(|it| it == action);
    match has("errno") && has("kill_process") {
        true => Finding::good(SUBJECT, "filters system calls"),
        false => Finding::bad(
            SUBJECT,
            Grade::Broken,
            "the kernel filters no system calls",
            "use a kernel with CONFIG_SECCOMP_FILTER, or run containers with --no-seccomp",
        ),
    }
}

/// Not having any of them is no fault: what they guard is guarded twice.
fn modules(active: &str) -> Finding {
    const OF_USE: [&str; 3] = ["apparmor", "selinux", "landlock"];
    let found: Vec<_> = active.split(',').filter(|it| OF_USE.contains(it)).collect();
    let state = match found.is_empty() {
        true => "none".to_owned(),
        false => found.join(", "),
    };
    Finding::good("security modules", state)
}

/// Which other processors' programs run here (binfmt_misc).
fn foreign() -> Finding {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc")
        .into_iter()
        .flatten();
    let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter(|it| it.starts_with("qemu-") || it == "rosetta")
        .collect();
    names.sort();
    let state = match names.is_empty() {
        true => "this processor's only".to_owned(),
        false => format!("this processor's, and by {}", names.join(", ")),
    };
    Finding::good("programs", state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_mount_setattr_are_too_old() {
        assert_eq!(version("5.11.0-1-amd64").grade, Grade::Broken);
        assert_eq!(version("4.19.0").grade, Grade::Broken);
        assert_eq!(version("5.12").grade, Grade::Good);
        assert_eq!(version("6.18.0-isolazi").grade, Grade::Good);
        assert_eq!(version("unheard of").grade, Grade::Good);
    }

    #[test]
    fn what_is_missing_is_named_with_its_option() {
        assert_eq!(namespaces(|_| true).grade, Grade::Good);
        let found = namespaces(|name| name != "net");
        assert_eq!(
            found.remedy.as_deref(),
            Some("use a kernel with CONFIG_NET_NS")
        );
        assert_eq!(
            seccomp("kill_process kill_thread trap errno allow").grade,
            Grade::Good
        );
        assert_eq!(seccomp("").grade, Grade::Broken);
        let found = overlay(Err(Errno::ENODEV));
        assert!(
            found
                .remedy
                .is_some_and(|it| it.contains("modprobe overlay"))
        );
    }

    #[test]
    fn modules_of_use_are_named() {
        assert_eq!(
            modules("capability,landlock,yama,apparmor").state,
            "landlock, apparmor"
        );
        assert_eq!(modules("capability").state, "none");
    }
}
