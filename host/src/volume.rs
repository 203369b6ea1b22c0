//! `-v [SRC:]DST[:OPTIONS]`.

use std::path::{Path, PathBuf};

use isolazi_protocol::{BindRecursion, Propagation, TmpfsMount, VolumeMount};

/// What the user wants mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A folder or file of this host.
    Bind(Volume),
    /// A volume of the engine's.
    Volume(VolumeMount),
    /// A memory file system.
    Tmpfs(TmpfsMount),
}

/// A bind mount as the user asked for it, its source resolved on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Canonical path of an existing file or folder.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// No writing.
    pub read_only: bool,
    /// Whether later mounts below it are shared.
    pub propagation: Propagation,
    /// What becomes of mounts below it.
    pub recursion: BindRecursion,
}

/// Why an option is not a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form at all.
    #[error("'{0}' is not a volume: expected SRC:DST, NAME:DST or DST, and :ro for no writing")]
    Form(String),
    /// The part after the second colon.
    #[error(
        "'{option}' in '{volume}' is not a volume option: use ro, rw or nocopy, or for folders shared, slave, private, rshared, rslave or rprivate"
    )]
    Option {
        /// The whole.
        volume: String,
        /// The part that is wrong.
        option: String,
    },
    /// A way of passing mounts on, of a volume.
    #[error("the propagation '{0}' is for folders of the host and not for volumes: leave it out")]
    Propagation(&'static str),
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

impl Mount {
    /// Parses the option, and looks a source on this host up.
    pub fn parse(text: &str) -> Result<Self, VolumeError> {
        let parts = split(text)?;
        match parts.source {
            Some(path) if is_path(path) => {
                let found = Volume::find(path, parts.target, parts.read_only)?;
                Ok(Self::Bind(Volume {
                    propagation: parts.propagation,
                    ..found
                }))
            }
            _ if !parts.propagation.is_private() => {
                Err(VolumeError::Propagation(parts.propagation.name()))
            }
            name => Ok(Self::Volume(VolumeMount {
                name: name.unwrap_or_default().to_owned(),
                anonymous: name.is_none(),
                target: parts.target.to_owned(),
                read_only: parts.read_only,
                no_copy: parts.no_copy,
                ..VolumeMount::default()
            })),
        }
    }
}

/// Whether a source is a path, and not the name of a volume.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '~']) || source.contains(['/', '\\'])
}

/// Whether a source given on Windows is a path of the distribution's, which only
/// the agent can look up.
fn is_of_linux(source: &str) -> bool {
    source.starts_with('/') && !source.starts_with("//")
}

impl Volume {
    /// Looks the source up.
    pub(crate) fn find(source: &str, target: &str, read_only: bool) -> Result<Self, VolumeError> {
        let path = Path::new(source);
        let found = match cfg!(windows) && is_of_linux(source) {
            true => Ok(path.to_owned()),
            false => path.canonicalize(),
        };
        let source = found.map_err(|error| VolumeError::Source {
            path: source.to_owned(),
            source: error,
        })?;
        Ok(Self {
            source,
            target: target.to_owned(),
            read_only,
            propagation: Propagation::default(),
            recursion: BindRecursion::default(),
        })
    }
}

/// What stands between the colons.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// Nothing for an anonymous volume.
    source: Option<&'a str>,
    target: &'a str,
    read_only: bool,
    no_copy: bool,
    propagation: Propagation,
}

fn split(text: &str) -> Result<Parts<'_>, VolumeError> {
    let form = || VolumeError::Form(text.to_owned());
    let (source, rest) = match split_source(text) {
        Some((source, rest)) => (Some(source), rest),
        // A path alone is where an anonymous volume goes.
        None if text.starts_with('/') => (None, text),
        None => return Err(form()),
    };
    let (target, options) = match rest.split_once(':') {
        Some((target, options)) => (target, Some(options)),
        None => (rest, None),
    };
    if source == Some("") || target.is_empty() {
        return Err(form());
    }
    if !target.starts_with('/') {
        return Err(VolumeError::RelativeTarget(target.to_owned()));
    }
    let (mut read_only, mut no_copy) = (false, false);
    let mut propagation = Propagation::default();
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        match option {
            "ro" | "readonly" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => no_copy = true,
            // Hints to Docker's own file sharing, and to SELinux.
            "cached" | "delegated" | "consistent" | "z" | "Z" => {}
            other => {
                propagation = Propagation::named(other).ok_or_else(|| VolumeError::Option {
                    volume: text.to_owned(),
                    option: other.to_owned(),
                })?;
            }
        }
    }
    Ok(Parts {
        source,
        target,
        read_only,
        no_copy,
        propagation,
    })
}

/// The source ends at the first colon, but not at that of a Windows drive, which
/// may come after `\\?\`.
fn split_source(text: &str) -> Option<(&str, &str)> {
    let device = if text.starts_with(r"\\?\") { 4 } else { 0 };
    let bytes = &text.as_bytes()[device..];
    let is_drive = bytes.len() > 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && matches!(bytes[2], b'\\' | b'/')
        && text[device + 2..].contains(':');
    let start = if is_drive { device + 2 } else { 0 };
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
            (r"\\?\C:\a b:/data:ro", (r"\\?\C:\a b", "/data", true)),
            (r"\\wsl$\isolazi\x:/x", (r"\\wsl$\isolazi\x", "/x", false)),
        ] {
            let parts = split(text).unwrap();
            let found = (parts.source.unwrap(), parts.target, parts.read_only);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_path_of_linux_is_told_from_one_of_windows() {
        assert!(is_of_linux("/home/x"));
        for windows in [
            "//server/share",
            r"C:\x",
            "c:/x",
            "./x",
            r"\\wsl$\isolazi\x",
        ] {
            assert!(!is_of_linux(windows), "{windows}");
        }
    }

    #[test]
    fn what_is_no_path_is_the_name_of_a_volume() {
        let volume = |text: &str| match Mount::parse(text).unwrap() {
            Mount::Volume(volume) => volume,
            other => panic!("{text}: {other:?}"),
        };
        let named = volume("data:/var/lib/data:ro,nocopy");
        assert_eq!(
            (named.name.as_str(), named.target.as_str()),
            ("data", "/var/lib/data")
        );
        assert!(named.read_only && named.no_copy && !named.anonymous);
        let anonymous = volume("/var/lib/data");
        assert!(anonymous.anonymous && anonymous.name.is_empty());
        for path in ["/tmp:/x", "./x:/x", "x/y:/x", r"C:\x:/x", "..:/x"] {
            let found = Mount::parse(path);
            assert!(!matches!(found, Ok(Mount::Volume(_))), "{path}");
        }
    }

    #[test]
    fn only_folders_share_mounts() {
        assert!(split("/a:/b").unwrap().propagation.is_private());
        for propagation in Propagation::ALL {
            let text = format!("/a:/b:ro,{},z", propagation.name());
            assert_eq!(split(&text).unwrap().propagation, propagation);
        }
        assert!(Mount::parse("data:/b:rprivate").is_ok());
        let refused = Mount::parse("data:/b:rshared").unwrap_err().to_string();
        assert!(refused.contains("rshared"), "{refused}");
    }

    #[test]
    fn malformed_volumes_are_refused() {
        for text in [
            "",
            "a",
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
        let error = Mount::parse("/no/such/folder:/x").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"));
    }
}
