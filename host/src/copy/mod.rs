//! `cp`: from what the user typed to where bytes go, by Docker's rules.
//!
//! ```text
//!  Side::parse ─► target ─┬─► pack      host ─► container   a tar of a local tree
//!                         └─► extract   container ─► host   what a guest sends, mistrusted
//! ```

pub mod extract;
pub mod flow;
pub mod pack;
mod pax;
pub mod target;

use std::path::{Path, PathBuf};

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// `-`: a tar on standard input or output.
    Stream,
    /// A path of this host's.
    Local(PathBuf),
    /// A path in a container.
    Container {
        /// Id, id prefix or name.
        container: String,
        /// Absolute, and with the ending that was typed.
        path: String,
    },
}

impl Side {
    /// Tells what an argument means. `a:b` is in container `a`; `./a:b` and
    /// absolute paths are local.
    pub fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        let local = || Self::Local(PathBuf::from(text));
        if Path::new(text).is_absolute() || text.starts_with('.') {
            return local();
        }
        match text.split_once(':') {
            Some((container, path)) if !container.is_empty() => Self::Container {
                container: container.to_owned(),
                path: match path.starts_with('/') {
                    true => path.to_owned(),
                    false => format!("/{path}"),
                },
            },
            _ => local(),
        }
    }
}

/// Whether a path says that it is a folder's: it ends in a separator.
pub fn ends_in_separator(path: &str) -> bool {
    path.ends_with('/') || (cfg!(windows) && path.ends_with('\\'))
}

/// Whether a path means what is in a folder, not the folder: it ends in `/.`.
pub fn means_content(path: &str) -> bool {
    match path.strip_suffix('.') {
        Some(folder) => folder.is_empty() || ends_in_separator(folder),
        None => false,
    }
}

/// The last name of a container's path; `None` for the root and where the
/// path does not end in a name.
pub fn last_name(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        let container = |path: &str| Side::Container {
            container: "web".to_owned(),
            path: path.to_owned(),
        };
        for (text, side) in [
            ("web:/etc/", container("/etc/")),
            ("web:etc/.", container("/etc/.")),
            ("web:", container("/")),
            ("web:a:b", container("/a:b")),
            ("-", Side::Stream),
            ("./web:x", Side::Local("./web:x".into())),
            ("../web:x", Side::Local("../web:x".into())),
            ("plain", Side::Local("plain".into())),
            (":x", Side::Local(":x".into())),
        ] {
            assert_eq!(Side::parse(text), side, "{text}");
        }
        #[cfg(unix)]
        assert_eq!(Side::parse("/web:x"), Side::Local("/web:x".into()));
    }

    #[test]
    fn endings_tell_what_is_meant() {
        assert!(means_content(".") && means_content("a/.") && means_content("/."));
        assert!(!means_content("a.") && !means_content("..") && !means_content("a/"));
        assert_eq!(last_name("/a/b/"), Some("b"));
        for none in ["/", "/a/..", "/.", ""] {
            assert_eq!(last_name(none), None, "{none}");
        }
    }
}
