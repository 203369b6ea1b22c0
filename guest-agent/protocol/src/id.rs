//! Identifiers that are valid by construction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("'{0}' is not a digest: expected sha256: and 64 hexadecimal digits")]
    Digest(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("'{0}' is not a container id: expected 64 hexadecimal digits")]
    Container(String),
}

const HEX_DIGITS: usize = 64;

fn is_hex(text: &str) -> bool {
    text.len() == HEX_DIGITS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// At most this much of a rejected string is repeated in the error.
fn excerpt(text: &str) -> String {
    text.chars().take(HEX_DIGITS + 16).collect()
}

/// A SHA-256 content digest in the form of the OCI image-spec, `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    const PREFIX: &'static str = "sha256:";

    /// The digest of 32 raw bytes, as a hash function returns them.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(Self::PREFIX.len() + HEX_DIGITS);
        text.push_str(Self::PREFIX);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The 64 hexadecimal digits, safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }

    /// `sha256:` and the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix(Self::PREFIX) {
            Some(hex) if is_hex(hex) => Ok(Self(text.to_owned())),
            _ => Err(IdError::Digest(excerpt(text))),
        }
    }
}

/// A container's full id: 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Length of the short form that listings show.
    pub const SHORT: usize = 12;

    /// The id made of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes).hex().to_owned())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits.
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Container(excerpt(text)))
        }
    }
}

/// The string conversions that serde and formatting need, alike for both kinds.
macro_rules! string_conversions {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
string_conversions!(Digest, ContainerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_accepts_only_lower_case_sha256() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().hex(), "0a".repeat(32));
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &good.to_uppercase(),
            &good[..70],
            &format!("{good}0"),
            &good.replace("sha256", "sha512"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn deserializing_an_identifier_validates_it() {
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
        assert!(serde_json::from_str::<Digest>("\"sha256:zz\"").is_err());
    }
}
