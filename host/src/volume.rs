//! `-v SRC:DST[:OPTIONS]`.

use std::path::{Path, PathBuf};

/// A bind mount as the user asked for it, its source resolved on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Canonical path of an existing file or folder.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// No writing.
    pub read_only: bool,
}

/// Why an option is not a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form at all.
    #[error("'{0}' is not a volume: expected SRC:DST or SRC:DST:ro")]
    Form(String),
    /// The part after the second colon.
    #[error("'{option}' in '{volume}' is not a volume option: use ro or rw")]
    Option {
        /// The whole.
        volume: String,
        /// The part that is wrong.
        option: String,
    },
    /// The target.
    #[error("volume target '{0}' must be an absolute path")]
    RelativeTarget(String),
    /// The source.
    #[error("bind source {path} does not exist or cannot be read; create it first")]
    Source {
        /// As the user wrote it.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Volume {
    /// Parses the option and looks the source up.
    pub fn parse(text: &str) -> Result<Self, VolumeError> {
        let (source, target, read_only) = split(text)?;
        let path = Path::new(source);
        let source = path.canonicalize().map_err(|error| VolumeError::Source {
            path: source.to_owned(),
            source: error,
        })?;
        Ok(Self {
            source,
            target: target.to_owned(),
            read_only,
        })
    }
}

fn split(text: &str) -> Result<(&str, &str, bool), VolumeError> {
    let form = || VolumeError::Form(text.to_owned());
    let (source, rest) = split_source(text).ok_or_else(form)?;
    let (target, options) = match rest.split_once(':') {
        Some((target, options)) => (target, Some(options)),
        None => (rest, None),
    };
    if source.is_empty() || target.is_empty() {
        return Err(form());
    }
    if !target.starts_with('/') {
        return Err(VolumeError::RelativeTarget(target.to_owned()));
    }
    let mut read_only = false;
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        read_only = match option {
            "ro" | "readonly" => true,
            "rw" => false,
            other => {
                return Err(VolumeError::Option {
                    volume: text.to_owned(),
                    option: other.to_owned(),
                });
            }
        };
    }
    Ok((source, target, read_only))
}

/// The source ends at the first colon, but not at that of a Windows drive.
fn split_source(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let is_drive = bytes.len() > 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && matches!(bytes[2], b'\\' | b'/')
        && text[2..].contains(':');
    let start = if is_drive { 2 } else { 0 };
    let colon = start + text[start..].find(':')?;
    Some((&text[..colon], &text[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_split_into_source_target_and_mode() {
        for (text, expected) in [
            ("/a:/b", ("/a", "/b", false)),
            ("/a:/b:ro", ("/a", "/b", true)),
            ("./a b:/b:rw", ("./a b", "/b", false)),
            (r"C:\data:/data", (r"C:\data", "/data", false)),
            ("c:/data:/data:ro", ("c:/data", "/data", true)),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_volumes_are_refused() {
        for text in [
            "",
            "/a",
            ":/b",
            "/a:",
            "/a:b",
            "/a:/b:rx",
            "/a:/b:ro:rw",
            "a::",
        ] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = Volume::parse("/no/such/folder:/x").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"));
    }
}
