//! `KEY=VALUE`, on the command line and in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::OptionError;

/// Labels: those of the files, then those given one by one, which win.
pub(crate) fn labels(
    files: &[PathBuf],
    given: &[String],
) -> Result<BTreeMap<String, String>, OptionError> {
    let mut labels = BTreeMap::new();
    for file in files {
        let lines = lines(file, &read(file)?)?;
        labels.extend(
            lines
                .into_iter()
                .map(|(key, value)| (key, value.unwrap_or_default())),
        );
    }
    for text in given {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(OptionError::form(text, "a label", "KEY=VALUE"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// `NAME=VALUE` of a kernel parameter.
pub(super) fn sysctl(text: &str) -> Result<(String, String), OptionError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(OptionError::form(text, "a kernel parameter", "NAME=VALUE")),
    }
}

/// The variables of all files, in order.
pub fn environment_files(files: &[PathBuf]) -> Result<Vec<String>, OptionError> {
    let parts = files.iter().map(|file| env_file(file));
    Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
}

/// The variables of a file in Docker's format, `KEY=VALUE` each. A key alone
/// passes on the host's variable, if there is one.
pub fn env_file(file: &Path) -> Result<Vec<String>, OptionError> {
    let host = |key: &str| std::env::var(key).ok();
    let lines = lines(file, &read(file)?)?.into_iter();
    Ok(lines
        .filter_map(|(key, value)| {
            value
                .or_else(|| host(&key))
                .map(|value| format!("{key}={value}"))
        })
        .collect())
}

fn read(file: &Path) -> Result<Vec<u8>, OptionError> {
    fs::read(file).map_err(OptionError::file(file))
}

/// A key, and its value where there is a `=`.
type Line = (String, Option<String>);

/// Docker's format: comments and empty lines are left out, space in front of a
/// line is not part of it, all else is, quotes and what follows a value included.
fn lines(file: &Path, bytes: &[u8]) -> Result<Vec<Line>, OptionError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let wrong = |why: String| OptionError::Line {
            path: file.display().to_string(),
            line: number,
            why,
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| wrong("it is not UTF-8; save the file as UTF-8".to_owned()))?
            .trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, None),
        };
        if key.is_empty() {
            return Err(wrong(format!("no name in front of the = in '{line}'")));
        }
        if key.contains(char::is_whitespace) {
            return Err(wrong(format!(
                "the name '{key}' contains spaces; remove them"
            )));
        }
        found.push((key.to_owned(), value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Line>, String> {
        lines(Path::new("vars"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_have_dockers_format() {
        let text = "\u{feff}A=1\n# no\n\n  B = x \r\nC=\"q\" # kept\nD\nE=\nF=a=b,c=d";
        // A space after the key is one too many.
        assert!(parsed(text).unwrap_err().contains("vars, line 4"));
        let text = text.replace("B = x", "B= x");
        let some = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(
            parsed(&text).unwrap(),
            [
                some("A", "1"),
                some("B", " x "),
                some("C", "\"q\" # kept"),
                ("D".to_owned(), None),
                some("E", ""),
                some("F", "a=b,c=d"),
            ]
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        assert!(parsed("A=1\n=x").unwrap_err().contains("line 2"));
        let latin = lines(Path::new("vars"), b"A=\xe4").unwrap_err();
        assert!(latin.to_string().contains("UTF-8"));
    }

    #[test]
    fn a_key_alone_is_the_hosts_variable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vars");
        fs::write(&file, "PATH\nISOLAZI_NOT_SET_ANYWHERE\nX=1\n").unwrap();
        let found = env_file(&file).unwrap();
        assert_eq!(
            found,
            [
                format!("PATH={}", std::env::var("PATH").unwrap()),
                "X=1".to_owned()
            ]
        );
        let missing = env_file(&folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"));
    }

    #[test]
    fn a_label_needs_a_key() {
        assert!(labels(&[], &["=x".to_owned()]).is_err());
        assert!(sysctl("net.x").is_err() && sysctl("=1").is_err());
    }
}
