//! What a container may do beyond the ordinary, or less: capabilities(7) and
//! devices. All of it is written as Docker writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Privileges that somebody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// All capabilities and devices, and nothing masked, protected or filtered.
    pub privileged: bool,
    /// Capabilities besides the default ones.
    pub cap_add: Vec<Capabilities>,
    /// Default ones that it does without.
    pub cap_drop: Vec<Capabilities>,
    /// Devices of the agent's machine to show.
    pub devices: Vec<DeviceMapping>,
    /// Further devices that may be used.
    pub device_rules: Vec<DeviceRule>,
}

/// Names of all capabilities, in the order of their numbers in
/// `linux/capability.h`, without their prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const PREFIX: &str = "CAP_";

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// All that this version knows.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }

    /// The one with this name, `CAP_CHOWN` and so on, as it is.
    pub fn full_named(name: &str) -> Option<Self> {
        let short = name.strip_prefix(PREFIX)?;
        Self::short_named(short)
    }

    fn short_named(name: &str) -> Option<Self> {
        Self::all().find(|it| it.short_name() == name)
    }

    /// Its number in `linux/capability.h`, below 64.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name without `CAP_`.
    pub fn short_name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.short_name())
    }
}

/// One capability, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Capabilities {
    /// `ALL`.
    All,
    /// One of them.
    One(Capability),
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("ALL"),
            Self::One(capability) => capability.fmt(f),
        }
    }
}

/// No name of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a capability")]
pub struct UnknownCapability(pub String);

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    /// In letters of any case, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix(PREFIX).unwrap_or(&upper);
        if name == "ALL" {
            return Ok(Self::All);
        }
        Capability::short_named(name)
            .map(Self::One)
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

impl TryFrom<String> for Capabilities {
    type Error = UnknownCapability;

    fn try_from(text: String) -> Result<Self, UnknownCapability> {
        text.parse()
    }
}

impl From<Capabilities> for String {
    fn from(capabilities: Capabilities) -> Self {
        capabilities.to_string()
    }
}

/// A device of the agent's machine that is shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Absolute path on the agent's machine: a device, or a folder of some.
    pub host: String,
    /// Absolute path in the container.
    pub container: String,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceAccess {
    /// `r`: open it for reading.
    pub read: bool,
    /// `w`: open it for writing.
    pub write: bool,
    /// `m`: make its file, mknod(2).
    pub make: bool,
}

impl DeviceAccess {
    /// `rwm`.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        make: true,
    };
    /// `m`.
    pub const MAKE: Self = Self {
        read: false,
        write: false,
        make: true,
    };
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        let mut set = letters.iter().filter(|(is_set, _)| *is_set);
        set.try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// No such access, or no such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Of one device.
    #[error("'{0}' is not an access to a device: use letters of rwm")]
    Access(String),
    /// Of many.
    #[error(
        "'{0}' is not a rule for devices: use 'TYPE MAJOR:MINOR ACCESS', such as 'c 1:3 rwm' or 'b 8:* r'"
    )]
    Rule(String),
}

impl FromStr for DeviceAccess {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let is_letter = |it: char| "rwm".contains(it);
        if text.is_empty() || text.len() > 3 || !text.chars().all(is_letter) {
            return Err(DeviceError::Access(text.to_owned()));
        }
        Ok(Self {
            read: text.contains('r'),
            write: text.contains('w'),
            make: text.contains('m'),
        })
    }
}

impl TryFrom<String> for DeviceAccess {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<DeviceAccess> for String {
    fn from(access: DeviceAccess) -> Self {
        access.to_string()
    }
}

/// Which kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// `a`: either.
    All,
    /// `b`.
    Block,
    /// `c`.
    Character,
}

/// Devices that may be used, as the devices controller of cgroups v1 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Of which kind.
    pub kind: DeviceKind,
    /// Major number; any where there is none.
    pub major: Option<u32>,
    /// Minor number, as above.
    pub minor: Option<u32>,
    /// What may be done with them.
    pub access: DeviceAccess,
}

/// Linux has 12 bits of a major number and 20 of a minor one.
const MOST_MAJOR: u32 = (1 << 12) - 1;
const MOST_MINOR: u32 = (1 << 20) - 1;

impl FromStr for DeviceRule {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let parse = || {
            let mut words = text.split(' ');
            let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
            let kind = match kind {
                "a" => DeviceKind::All,
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Character,
                _ => return None,
            };
            let (major, minor) = numbers.split_once(':')?;
            let rule = Self {
                kind,
                major: number(major, MOST_MAJOR)?,
                minor: number(minor, MOST_MINOR)?,
                access: access.parse().ok()?,
            };
            words.next().is_none().then_some(rule)
        };
        parse().ok_or_else(|| DeviceError::Rule(text.to_owned()))
    }
}

fn number(text: &str, most: u32) -> Option<Option<u32>> {
    match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let number = digits.parse().ok().filter(|it| *it <= most)?;
            Some(Some(number))
        }
        _ => None,
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |it: Option<u32>| it.map_or("*".to_owned(), |it| it.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        write!(f, "{kind} {major}:{minor} {}", self.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_kernels_numbers() {
        for (text, number, name) in [
            ("chown", 0, "CAP_CHOWN"),
            ("CAP_NET_ADMIN", 12, "CAP_NET_ADMIN"),
            ("cap_Sys_Admin", 21, "CAP_SYS_ADMIN"),
            ("MKNOD", 27, "CAP_MKNOD"),
            ("checkpoint_restore", 40, "CAP_CHECKPOINT_RESTORE"),
        ] {
            let Ok(Capabilities::One(found)) = text.parse() else {
                panic!("{text}");
            };
            assert_eq!((found.number(), found.to_string().as_str()), (number, name));
        }
        for all in ["all", "ALL", "cap_all"] {
            assert_eq!(all.parse(), Ok(Capabilities::All));
        }
        for bad in ["", "CAP_", "CAP_CAP_CHOWN", "NET-ADMIN", "chown "] {
            assert!(bad.parse::<Capabilities>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rules_for_devices_are_dockers() {
        for text in ["c 1:3 rwm", "b 8:* r", "a *:* m", "c 136:1048575 rw"] {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "c 1:3",
            "d 1:3 r",
            "c 1 r",
            "c 1:3 x",
            "c 1:3 ",
            "c 1:3 rwmr",
            "c  1:3 r",
            "c 1:3 r w",
            "c -1:3 r",
            "c :3 r",
            "c 4096:0 r",
            "c 1:99999999999 r",
        ] {
            assert!(bad.parse::<DeviceRule>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn privileges_survive_their_text() {
        let privileges = Privileges {
            cap_add: vec![Capabilities::All],
            cap_drop: vec!["kill".parse().unwrap()],
            devices: vec![DeviceMapping {
                host: "/dev/null".to_owned(),
                container: "/dev/x".to_owned(),
                access: "wr".parse().unwrap(),
            }],
            ..Privileges::default()
        };
        let text = serde_json::to_string(&privileges).unwrap();
        assert!(
            text.contains(r#"["CAP_KILL"]"#) && text.contains(r#""rw""#),
            "{text}"
        );
        let back: Privileges = serde_json::from_str(&text).unwrap();
        assert_eq!(back, privileges);
    }
}
