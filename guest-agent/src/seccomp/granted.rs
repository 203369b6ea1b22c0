//! What a profile's rules may depend on.

use isolazi_protocol::Capability;

use crate::sys::caps::CapabilitySet;

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

    /// By its whole name, as profiles have it.
    pub(super) fn has(&self, capability: &str) -> bool {
        let found = Capability::full_named(capability);
        found.is_some_and(|found| self.caps.contains(found.number()))
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
