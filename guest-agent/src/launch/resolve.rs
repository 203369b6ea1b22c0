//! Paths of a container, resolved so that no symbolic link of it can lead out
//! of its root: openat2(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// A rename elsewhere can make the kernel unsure whether a `..` left the root;
/// it then asks to try again.
const MOST_TRIES: usize = 64;

/// Links to what is missing that are followed on the way to one path; as many
/// as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What a path is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// The folder that is a container's root.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// `folder` as a root.
    pub(super) fn new(folder: OwnedFd) -> Self {
        Self(folder)
    }

    /// The calling process's own root.
    pub(super) fn own() -> Result<Self, Errno> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        openat2(nix::fcntl::AT_FDCWD, c"/", how).map(Self)
    }

    /// Opens a path: absolute names, `..` and links mean what they would in
    /// the container. Magic links (`/proc/self/fd/3`) are refused with `ELOOP`.
    pub(super) fn open<P: AsRef<Path>>(&self, path: P, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        open_at(self.as_fd(), path.as_ref(), flags, resolve)
    }

    /// Opens the folder at `path`, no component of which may be a symbolic
    /// link (`ELOOP`), and creates it where it is missing.
    pub(super) fn plain_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let open = || open_plain(self.as_fd(), Path::new(path), OFlag::O_DIRECTORY);
        match open() {
            Err(Errno::ENOENT) => {
                mkdirat(self.as_fd(), path, Mode::from_bits_truncate(0o755))?;
                open()
            }
            other => other,
        }
    }

    /// Opens what is at `path`, creating it where it is missing, and the
    /// folders on the way to it. What is there already may be of either kind.
    /// A link to what is missing has it created, within this root.
    pub(super) fn ensure(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        self.ensure_through(path, kind, MOST_LINKS)
    }

    fn ensure_through(&self, path: &Path, kind: Kind, links: usize) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        // Neither the root, which exists, nor a name ending in `..`.
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let parent = self.ensure_through(folder, Kind::Folder, links)?;
        if is_proc(parent.as_fd()) {
            // Nothing can be made there, and its links may be magic ones.
            return Err(Errno::ENOENT);
        }
        match create(parent.as_fd(), Path::new(name), kind) {
            Err(Errno::ELOOP) if links > 0 => {
                let target = readlinkat(&parent, name)?;
                self.ensure_through(&folder.join(target), kind, links - 1)
            }
            other => other,
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens `path` below `folder` without following any symbolic link (`ELOOP`),
/// as a place only (`O_PATH`).
pub(super) fn open_plain(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    open_at(folder, path, OFlag::O_PATH | flags, resolve)
}

fn open_at(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve);
    for _ in 0..MOST_TRIES {
        match openat2(folder, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// Whether a place is in procfs.
pub(super) fn is_proc(place: BorrowedFd<'_>) -> bool {
    fstatfs(place).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

fn create(parent: BorrowedFd<'_>, name: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
    let made = match kind {
        Kind::Folder => mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Kind::File => create_file(parent, name, 0o644),
    };
    match made {
        // Somebody else may have made it; whatever it is, no link is followed.
        Ok(()) | Err(Errno::EEXIST) => open_plain(parent, name, OFlag::empty()),
        Err(errno) => Err(errno),
    }
}

/// Makes an empty file, which must not exist.
pub(super) fn create_file(
    parent: BorrowedFd<'_>,
    name: &Path,
    mode: libc::mode_t,
) -> Result<(), Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_BENEATH);
    openat2(parent, name, how).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root_at(folder: &Path) -> Root {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        Root::new(openat2(nix::fcntl::AT_FDCWD, folder, how).unwrap())
    }

    #[test]
    fn links_to_the_outside_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        symlink("../../../../..", inside.join("up")).unwrap();
        symlink("/", inside.join("absolute")).unwrap();
        let root = root_at(&inside);
        root.ensure(Path::new("/up/a/b"), Kind::Folder).unwrap();
        root.ensure(Path::new("/absolute/c/d"), Kind::File).unwrap();
        assert!(inside.join("a/b").is_dir());
        assert!(inside.join("c/d").is_file());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_dangling_link_names_is_made_inside() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("root");
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        symlink("../../../run/resolv.conf", inside.join("etc/relative")).unwrap();
        symlink("/var/absolute", inside.join("link")).unwrap();
        let root = root_at(&inside);
        root.ensure(Path::new("/etc/relative"), Kind::File).unwrap();
        root.ensure(Path::new("/link/x"), Kind::File).unwrap();
        assert!(inside.join("run/resolv.conf").is_file());
        assert!(inside.join("var/absolute/x").is_file());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b/x", folder.path().join("a")).unwrap();
        symlink("a/x", folder.path().join("b")).unwrap();
        let root = root_at(folder.path());
        let refused = root.ensure(Path::new("/a"), Kind::File);
        assert_eq!(refused.map(drop), Err(Errno::ELOOP));
    }

    #[test]
    fn a_target_that_climbs_is_refused_unless_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = root_at(folder.path());
        let refused = root.ensure(Path::new("/new/.."), Kind::Folder);
        assert_eq!(refused.map(drop), Err(Errno::EINVAL));
        assert!(root.ensure(Path::new("/../.."), Kind::Folder).is_ok());
    }

    #[test]
    fn a_plain_folder_is_no_link() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/etc", folder.path().join("proc")).unwrap();
        let root = root_at(folder.path());
        assert_eq!(root.plain_folder("proc").map(drop), Err(Errno::ELOOP));
        assert!(root.plain_folder("dev").is_ok());
        assert!(folder.path().join("dev").is_dir());
    }
}
