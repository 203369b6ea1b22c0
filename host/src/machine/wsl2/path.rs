//! Where the distribution finds what Windows names so: drives are below `/mnt`
//! ("Advanced settings configuration in WSL", `[automount]`).

use std::path::Path;

/// Why the distribution cannot have a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// It is not text.
    #[error("bind source {0} is not valid Unicode; rename it")]
    Text(String),
    /// It depends on where a drive's current folder is.
    #[error("bind source {0} is relative to a drive's current folder; write it as {1}")]
    Relative(String, String),
    /// It is on another machine.
    #[error("bind source {0} is on the network, where WSL does not reach; copy it to a drive")]
    Network(String),
    /// It is another distribution's.
    #[error("bind source {path} is in the distribution {other}, and containers run in {own}")]
    Distribution {
        path: String,
        other: String,
        own: String,
    },
}

/// What the distribution `name` has to be told instead of `path`.
pub(super) fn for_distribution(path: &Path, name: &str) -> Result<String, PathError> {
    let text = path
        .to_str()
        .ok_or_else(|| PathError::Text(path.display().to_string()))?;
    match cfg!(windows) {
        true => translate(text, name),
        false => Ok(text.to_owned()),
    }
}

/// The same for the path as Windows has it.
fn translate(path: &str, name: &str) -> Result<String, PathError> {
    let slashed = path.replace('\\', "/");
    // `\\?\C:\…` and `\\?\UNC\server\…` mean what they mean without the prefix.
    let plain = match slashed.strip_prefix("//?/") {
        Some(rest) => match rest.strip_prefix("UNC/") {
            Some(rest) => format!("//{rest}"),
            None => rest.to_owned(),
        },
        None => slashed,
    };
    if let Some(rest) = plain.strip_prefix("//") {
        return from_network(path, rest, name);
    }
    let bytes = plain.as_bytes();
    let is_drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    if !is_drive {
        return Ok(plain);
    }
    let (drive, rest) = (&plain[..1], &plain[2..]);
    match rest.strip_prefix('/') {
        Some(rest) => {
            let drive = drive.to_ascii_lowercase();
            Ok(format!("/mnt/{drive}/{rest}")
                .trim_end_matches('/')
                .to_owned())
        }
        None => Err(PathError::Relative(
            path.to_owned(),
            format!("{drive}:\\{}", rest.replace('/', "\\")),
        )),
    }
}

/// A distribution's files are on the network, in a way.
fn from_network(path: &str, rest: &str, name: &str) -> Result<String, PathError> {
    let (server, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let is_wsl = ["wsl$", "wsl.localhost"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(server));
    if !is_wsl {
        return Err(PathError::Network(path.to_owned()));
    }
    let (distribution, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match distribution.eq_ignore_ascii_case(name) {
        true => Ok(format!("/{rest}")),
        false => Err(PathError::Distribution {
            path: path.to_owned(),
            other: distribution.to_owned(),
            own: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_below_mnt() {
        for (windows, linux) in [
            (r"C:\data", "/mnt/c/data"),
            (r"\\?\C:\data", "/mnt/c/data"),
            (r"d:/a b/ü", "/mnt/d/a b/ü"),
            (r"C:\", "/mnt/c"),
            (r"C:\data\", "/mnt/c/data"),
            ("/home/x", "/home/x"),
            (r"\\wsl$\isolazi\home\x", "/home/x"),
            (r"\\wsl.localhost\Isolazi\home\x", "/home/x"),
            (r"\\?\UNC\wsl.localhost\isolazi\srv", "/srv"),
            (r"//wsl$/isolazi", "/"),
        ] {
            assert_eq!(
                translate(windows, "isolazi").as_deref(),
                Ok(linux),
                "{windows}"
            );
        }
    }

    #[test]
    fn what_the_distribution_does_not_have_is_an_error_that_says_what_to_do() {
        for (windows, part) in [
            (r"C:data", r"C:\data"),
            ("C:", "relative"),
            (r"\\server\share\x", "network"),
            (r"\\?\UNC\server\share", "network"),
            (r"\\wsl$\Ubuntu\home", "Ubuntu"),
        ] {
            let error = translate(windows, "isolazi").unwrap_err().to_string();
            assert!(error.contains(part), "{windows}: {error}");
        }
    }
}
