//! Where the kernel's source comes from: a folder or tarball that the user
//! names, else the newest suitable `linux-source` package of the distribution.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::{FileError, failed};
use crate::key::Key;
use crate::progress::Progress;
use crate::tools;

/// Where Debian's packages put the tarballs.
const PACKAGED: &str = "/usr/src";
/// The configuration is written for this version, the kernel of Debian 13.
const PREFERRED: Version = Version(6, 12);
/// Before this one, mitigations have other names.
const OLDEST: Version = Version(6, 10);

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the user named is no kernel source.
    #[error("{0} is neither a folder with the kernel's source nor a tarball of it")]
    NotSource(PathBuf),
    /// The distribution has no package that would do.
    #[error(
        "this system has no package linux-source-{PREFERRED} or another from {OLDEST} on: \
         download a kernel from kernel.org and give it with --kernel-source"
    )]
    NoPackage,
    /// The source cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A source, found but not yet unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelSource {
    /// A tarball, compressed as tar(1) recognizes.
    Tarball(PathBuf),
    /// A clean source tree.
    Folder(PathBuf),
}

/// The first two numbers of a kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl KernelSource {
    /// The source at `path`.
    pub(crate) fn given(path: &Path) -> Result<Self, SourceError> {
        let found = fs::metadata(path).map_err(failed("read", path))?;
        // Absolute, because make and tar run in other folders.
        let whole = fs::canonicalize(path).map_err(failed("read", path))?;
        if found.is_file() {
            Ok(Self::Tarball(whole))
        } else if whole.join("Kbuild").is_file() && whole.join("Makefile").is_file() {
            Ok(Self::Folder(whole))
        } else {
            Err(SourceError::NotSource(path.to_owned()))
        }
    }

    /// The distribution's source, if its package is installed.
    fn installed() -> Option<Self> {
        let entries = fs::read_dir(PACKAGED).ok()?.flatten();
        let names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.contains(".tar."))
            .collect();
        best(&names).map(|name| Self::Tarball(Path::new(PACKAGED).join(name)))
    }

    /// The distribution's source, installed now where that can be done.
    pub(crate) fn packaged(progress: &mut Progress<'_>) -> Result<Self, crate::BuildError> {
        if let Some(found) = Self::installed() {
            return Ok(found);
        }
        tools::update_lists_if_missing(progress)?;
        let package = package().ok_or(SourceError::NoPackage)?;
        tools::install("the kernel's source", &[&package], progress)?;
        Ok(Self::installed().ok_or(SourceError::NoPackage)?)
    }

    /// The key with what tells this source from another. A tarball is told by
    /// name, size and time, as make would; a tree by those of all its files.
    pub(crate) fn identify(&self, key: Key) -> Result<Key, FileError> {
        match self {
            Self::Tarball(path) => identify_file(key, path, path),
            Self::Folder(path) => identify_tree(key, path, path),
        }
    }
}

fn identify_file(key: Key, path: &Path, name: &Path) -> Result<Key, FileError> {
    let found = fs::metadata(path).map_err(failed("read", path))?;
    let stamp = format!("{} {}.{}", found.len(), found.mtime(), found.mtime_nsec());
    Ok(key.with(name.as_os_str().as_encoded_bytes()).with(stamp))
}

fn identify_tree(mut key: Key, root: &Path, folder: &Path) -> Result<Key, FileError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(failed("read", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(failed("read", &path))?;
        if kind.is_dir() && entry.file_name() != ".git" {
            key = identify_tree(key, root, &path)?;
        } else if kind.is_file() {
            let name = path.strip_prefix(root).unwrap_or(&path);
            key = identify_file(key, &path, name)?;
        }
    }
    Ok(key)
}

/// The name of the package to install, of those that apt knows.
fn package() -> Option<String> {
    let known = Command::new("apt-cache")
        .args(["pkgnames", "linux-source-"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let names = String::from_utf8_lossy(&known.stdout);
    let names: Vec<String> = names.lines().map(str::to_owned).collect();
    best(&names).map(str::to_owned)
}

/// Of names like `linux-source-6.12` or `linux-source-6.12.tar.xz`, the
/// preferred version or else the newest that will do.
fn best(names: &[String]) -> Option<&str> {
    let versions = names
        .iter()
        .filter_map(|name| Some((version(name)?, name.as_str())))
        .filter(|(version, _)| *version >= OLDEST);
    versions
        .max_by_key(|(version, _)| (*version == PREFERRED, *version))
        .map(|(_, name)| name)
}

fn version(name: &str) -> Option<Version> {
    let rest = name.strip_prefix("linux-source-")?;
    let rest = rest.split(".tar.").next()?;
    let mut numbers = rest.split('.').map(str::parse);
    let version = Version(numbers.next()?.ok()?, numbers.next()?.ok()?);
    // Whatever follows must be a number too: not `-rt`, not a patch.
    numbers.all(|part| part.is_ok()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_wins_then_the_newest() {
        let debian = ["linux-source-6.1", "linux-source-6.12", "linux-source-6.16"];
        let debian = debian.map(str::to_owned);
        assert_eq!(best(&debian), Some("linux-source-6.12"));
        let ubuntu = [
            "linux-source-6.8.0.tar.bz2",
            "linux-source-6.14.0.tar.bz2",
            "linux-source-6.11.0.tar.bz2",
            "linux-source-7.0-rt.tar.xz",
            "linux-patch-6.14.patch.xz",
        ];
        let ubuntu = ubuntu.map(str::to_owned);
        assert_eq!(best(&ubuntu), Some("linux-source-6.14.0.tar.bz2"));
        assert_eq!(best(&debian[..1]), None);
    }

    #[test]
    fn a_changed_file_changes_the_identity() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kernel")).unwrap();
        for name in ["Kbuild", "Makefile", "kernel/fork.c"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let source = KernelSource::given(dir.path()).unwrap();
        let identity = || source.identify(Key::new("kernel", 1)).unwrap().hex();
        let before = identity();
        assert_eq!(before, identity());
        fs::write(dir.path().join("kernel/fork.c"), "changed").unwrap();
        assert_ne!(before, identity());
    }

    #[test]
    fn what_is_no_source_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = KernelSource::given(dir.path()).unwrap_err();
        assert!(matches!(error, SourceError::NotSource(_)));
        assert!(KernelSource::given(&dir.path().join("missing")).is_err());
    }
}
