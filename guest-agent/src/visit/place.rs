//! A path of a container, resolved step by step, so that its true name is
//! known as well as what is there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat};

use super::VisitError;
use super::entry::is_kernels;
use crate::sys::fs;

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Something that exists below a root.
#[derive(Debug)]
pub struct Place {
    path: Vec<u8>,
    fd: OwnedFd,
    stat: FileStat,
}

impl Place {
    /// What is at `path` below `root`; `None` where there is nothing. A path
    /// that ends in `/` or `/.` must lead to a folder, through a link as well.
    pub fn find(
        root: BorrowedFd<'_>,
        path: &str,
        follow: bool,
    ) -> Result<Option<Self>, VisitError> {
        let must_be_folder = path.ends_with('/') || path.ends_with("/.") || path.is_empty();
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENOTDIR) => VisitError::NotAFolder(path.to_owned()),
            _ => VisitError::io("look at", path.as_bytes())(error),
        };
        let place = match resolve(root, path.as_bytes(), follow || must_be_folder) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other.map_err(failed)?,
        };
        if is_kernels(place.fd.as_fd()).map_err(failed)? {
            return Err(VisitError::Kernel(path.to_owned()));
        }
        match must_be_folder && !place.is_folder() {
            true => Err(VisitError::NotAFolder(path.to_owned())),
            false => Ok(Some(place)),
        }
    }

    /// Without symbolic links, relative to the root; empty is the root itself.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its status.
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        fs::is_dir(&self.stat)
    }

    fn at(root: BorrowedFd<'_>, path: Vec<u8>) -> io::Result<Self> {
        // Every name on the way was looked at: a link by now is a race.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let fd = fs::open_in_root(root, &path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)?;
        let stat = fstat(&fd)?;
        Ok(Self { path, fd, stat })
    }
}

fn resolve(root: BorrowedFd<'_>, path: &[u8], follow: bool) -> io::Result<Place> {
    let mut ahead: VecDeque<Vec<u8>> = names(path).collect();
    let mut here = Place::at(root, Vec::new())?;
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == b".." {
            let end = here.path.iter().rposition(|byte| *byte == b'/');
            let above = here.path[..end.unwrap_or(0)].to_vec();
            here = Place::at(root, above)?;
            continue;
        }
        if !here.is_folder() {
            return Err(Errno::ENOTDIR.into());
        }
        if is_kernels(here.fd.as_fd())? {
            // Its links may be magic ones; the caller refuses the place.
            return Ok(here);
        }
        let next = Place::at(root, join(&here.path, &name))?;
        if !fs::is_link(&next.stat) || (ahead.is_empty() && !follow) {
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = readlinkat(&next.fd, "")?;
        let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str());
        if target.starts_with(b"/") {
            here = Place::at(root, Vec::new())?;
        }
        for name in names(target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(here)
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    names
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

/// The path of `name` in the folder `path`.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        b"" => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn found(root: &OwnedFd, path: &str, follow: bool) -> Option<String> {
        let place = Place::find(root.as_fd(), path, follow).unwrap()?;
        Some(String::from_utf8(place.path).unwrap())
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("etc/sub")).unwrap();
        std::fs::write(folder.path().join("etc/passwd"), "").unwrap();
        let link = |target: &str, name: &str| symlink(target, folder.path().join(name)).unwrap();
        link("/etc", "absolute");
        link("../../../../etc", "climbing");
        link("absolute/sub/..", "chain");
        link("/nowhere", "dangling");
        let root = fs::open_dir(folder.path()).unwrap();
        for (path, expected) in [
            ("/", ""),
            ("etc/passwd", "etc/passwd"),
            ("/absolute/passwd", "etc/passwd"),
            ("climbing/passwd", "etc/passwd"),
            ("../../chain/passwd", "etc/passwd"),
            ("absolute/../etc/./sub", "etc/sub"),
        ] {
            assert_eq!(
                found(&root, path, false).as_deref(),
                Some(expected),
                "{path}"
            );
        }
        assert_eq!(found(&root, "absolute", false).as_deref(), Some("absolute"));
        assert_eq!(found(&root, "absolute", true).as_deref(), Some("etc"));
        assert_eq!(found(&root, "absolute/", false).as_deref(), Some("etc"));
        assert_eq!(found(&root, "dangling", false).as_deref(), Some("dangling"));
        assert_eq!(found(&root, "dangling", true), None);
        assert_eq!(found(&root, "none/x", true), None);
    }

    #[test]
    fn circles_and_files_on_the_way_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let root = fs::open_dir(folder.path()).unwrap();
        let refused = |path| Place::find(root.as_fd(), path, true).unwrap_err();
        assert!(matches!(refused("a/x"), VisitError::Io { .. }));
        for path in ["file/x", "file/"] {
            assert!(matches!(refused(path), VisitError::NotAFolder(_)), "{path}");
        }
    }

    #[test]
    fn the_kernels_own_files_are_refused() {
        let root = fs::open_dir(std::path::Path::new("/")).unwrap();
        for path in ["/proc", "/proc/self/root/etc", "/proc/1/exe", "/sys/kernel"] {
            let refused = Place::find(root.as_fd(), path, true).unwrap_err();
            assert!(matches!(refused, VisitError::Kernel(_)), "{path}");
        }
    }
}
