//! What a folder takes on disk.
//!
//! The folder may be a container's own, so its content changes while it is
//! read and is not to be trusted: every folder is opened below the root that
//! was given, links are never followed, and what cannot be read counts nothing.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::fs;

/// Unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// Bytes of all that is in `root`; a file of several names counts once.
pub(crate) fn of(root: BorrowedFd<'_>) -> u64 {
    let mut bytes = 0;
    let mut shared = HashSet::new();
    let mut folders = vec![Vec::new()];
    while let Some(path) = folders.pop() {
        let Ok(folder) = fs::open_dir_in_root(root, &path) else {
            continue;
        };
        for name in fs::list_dir(folder.as_fd()).unwrap_or_default() {
            let Ok(stat) = fs::stat_at(folder.as_fd(), &name) else {
                continue;
            };
            if fs::is_dir(&stat) {
                folders.push([&path[..], b"/", &name].concat());
            } else if stat.st_nlink > 1 && !shared.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(folder.path().join("outside"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("a/out")).unwrap();
        let fd = || fs::open_dir(&root).unwrap();
        let before = of(fd().as_fd());
        std::fs::write(root.join("a/b/file"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(root.join("a/b/file"), root.join("again")).unwrap();
        let grown = of(fd().as_fd()) - before;
        assert!((64 << 10..128 << 10).contains(&grown), "{grown}");
    }
}
