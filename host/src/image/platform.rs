//! For which operating system and processor an image is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Not `OS/ARCH` or `OS/ARCH/VARIANT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a platform: expected OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64")]
pub struct PlatformError(String);

/// An image-spec platform, in the spec's (that is, Go's) names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7` and the like. Never the one that is implied anyway (`v8` of
    /// arm64, `v1` of amd64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the processor this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// A platform by names that may be the kernel's (`x86_64`) or the spec's.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" | "armv7" | "armv7l" => ("arm", Some("v7")),
            "armel" | "armv6" | "armv6l" => ("arm", Some("v6")),
            "x86" | "i386" | "i686" => ("386", None),
            "powerpc64" | "powerpc64le" => ("ppc64le", None),
            other => (other, None),
        };
        let variant = variant.filter(|variant| !variant.is_empty()).or(implied);
        let redundant = matches!(
            (architecture, variant),
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1"))
        );
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.filter(|_| !redundant).map(str::to_owned),
        }
    }

    /// How well an image for `offered` serves this platform: `None` not at
    /// all, else the lower the better.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        match (&self.variant, &offered.variant) {
            (wanted, offered) if wanted == offered => Some(0),
            (Some(_), _) => None,
            (None, Some(offered)) => Some(1 + self.variant_distance(offered)),
            (None, None) => Some(0),
        }
    }

    /// Where no variant was asked for: 32-bit ARM means v7, then older ones;
    /// elsewhere a lower number runs on more machines.
    fn variant_distance(&self, variant: &str) -> u32 {
        let number = variant
            .trim_start_matches('v')
            .parse::<u8>()
            .map_or(100, u32::from);
        match self.architecture.as_str() {
            "arm" if number <= 7 => 7 - number,
            _ => number,
        }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::host()
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let good = |part: &&str| {
            (1..=32).contains(&part.len())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        match parts[..] {
            [os, architecture] if parts.iter().all(good) => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] if parts.iter().all(good) => {
                Ok(Self::new(os, architecture, Some(variant)))
            }
            _ => Err(PlatformError(
                text.chars().take(80).flat_map(char::escape_debug).collect(),
            )),
        }
    }
}

impl fmt::Display for Platform {
    /// As [`Platform::from_str`] reads it. What an image says of itself may
    /// contain anything, so control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.os.escape_debug(),
            self.architecture.escape_debug()
        )?;
        match &self.variant {
            Some(variant) => write!(f, "/{}", variant.escape_debug()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_normalized() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/aarch64/v8", "linux/arm64"),
            ("linux/armv7", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
        ] {
            assert_eq!(platform(text).to_string(), shown);
        }
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/am d64",
            "a/\n",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_closest_variant_ranks_first() {
        let arm = platform("linux/arm");
        let rank = |text| arm.rank(&platform(text));
        assert!(rank("linux/arm") < rank("linux/arm/v7"));
        assert!(rank("linux/arm/v7") < rank("linux/arm/v6"));
        assert_eq!(rank("linux/arm64"), None);
        assert_eq!(rank("windows/arm"), None);
        let exact = platform("linux/arm/v6");
        assert_eq!(exact.rank(&platform("linux/arm/v7")), None);
        assert_eq!(
            platform("linux/arm64/v8").rank(&platform("linux/arm64")),
            Some(0)
        );
    }
}
