//! What a profile's rules may depend on.

use crate::sys::caps::CapabilitySet;

/// Docker's names, by number (`linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A container's capabilities, and the kernel it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The most that any of its processes can have: its bounding set.
    pub caps: CapabilitySet,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

impl Granted {
    /// A container with these capabilities on this machine's kernel.
    pub fn here(caps: CapabilitySet) -> Self {
        let release = nix::sys::utsname::uname().ok();
        let release = release.map(|it| it.release().to_string_lossy().into_owned());
        let kernel = release.as_deref().and_then(version);
        Self {
            caps,
            // One that does not say is as old as can be.
            kernel: kernel.unwrap_or_default(),
        }
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        let number = CAPABILITIES.iter().position(|name| *name == capability);
        number.is_some_and(|number| self.caps.contains(number as u8))
    }
}

/// The start of `6.12.1-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|it: char| !it.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `MAJOR.MINOR`, and nothing else.
pub(super) fn exact_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let number = |digits: &str| match digits.bytes().all(|it| it.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    };
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("6.12.1-amd64"), Some((6, 12)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("x"), None);
        assert_eq!(exact_version("4.8"), Some((4, 8)));
        for bad in ["4", "4.8.1", "4.", "v4.8", "+4.8", ""] {
            assert_eq!(exact_version(bad), None, "{bad}");
        }
    }

    #[test]
    fn capabilities_have_their_numbers() {
        let granted = Granted {
            caps: CapabilitySet::of(&[18, 40]),
            kernel: (6, 0),
        };
        assert!(granted.has("CAP_SYS_CHROOT") && granted.has("CAP_CHECKPOINT_RESTORE"));
        assert!(!granted.has("CAP_SYS_ADMIN") && !granted.has("CAP_NOPE"));
    }
}
