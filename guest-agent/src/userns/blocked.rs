//! Why this machine lets an ordinary user make no user namespace, and what its
//! owner can do about it.

use std::fs;

use isolazi_protocol::{ErrorCode, WireError};
use nix::errno::Errno;

const OTHERWISE: &str = "or use sudo, or --vm";

/// Settings that forbid it: where, the value that does, and the one that does not.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "15000"),
];

/// What to say where the kernel has refused with `errno`.
pub(super) fn explain(errno: Errno) -> WireError {
    let read = |name: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(path).ok().map(|it| it.trim().to_owned())
    };
    let has_namespaces = fs::exists("/proc/self/ns/user").unwrap_or(true);
    WireError::new(ErrorCode::Permission, reason(errno, has_namespaces, read))
}

fn reason(errno: Errno, has_namespaces: bool, read: impl Fn(&str) -> Option<String>) -> String {
    let cannot = "containers without root need user namespaces";
    if !has_namespaces {
        return format!("{cannot}, which this kernel has not (CONFIG_USER_NS); use sudo, or --vm");
    }
    for (name, forbidding, allowing) in SETTINGS {
        if read(name).as_deref() == Some(forbidding) {
            return format!(
                "{cannot}, which {name}={forbidding} forbids to users; have them allowed with: sudo sysctl -w {name}={allowing} ({OTHERWISE})"
            );
        }
    }
    match errno {
        Errno::ENOSPC | Errno::EUSERS => format!(
            "{cannot}, and there are as many as user.max_user_namespaces allows, or 32 within each other; raise it with sysctl ({OTHERWISE})"
        ),
        _ => format!(
            "{cannot}, which the kernel refuses ({}); inside a container they need its seccomp profile or security module relaxed ({OTHERWISE})",
            errno.desc()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_named_with_its_remedy() {
        for (name, forbidding, allowing) in SETTINGS {
            let read = |asked: &str| (asked == name).then(|| forbidding.to_owned());
            let said = reason(Errno::EPERM, true, read);
            assert!(said.contains(&format!("{name}={forbidding} ")), "{said}");
            assert!(
                said.contains(&format!("sysctl -w {name}={allowing}")),
                "{said}"
            );
            // What is set otherwise is not to blame.
            let read = |asked: &str| (asked == name).then(|| allowing.to_owned());
            assert!(!reason(Errno::EPERM, true, read).contains(name));
        }
    }

    #[test]
    fn other_refusals_say_what_may_be_behind_them() {
        let none = |_: &str| None;
        assert!(reason(Errno::EPERM, true, none).contains("seccomp"));
        assert!(reason(Errno::ENOSPC, true, none).contains("max_user_namespaces"));
        assert!(reason(Errno::EINVAL, false, none).contains("CONFIG_USER_NS"));
    }
}
