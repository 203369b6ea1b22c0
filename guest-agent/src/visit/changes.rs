//! What a container has changed of its image, from the upper folder of its
//! overlay (overlayfs.rst of the kernel's documentation).
//!
//! ```text
//!  upper                     image         change
//!  a                         –             A /a
//!  a                         a             C /a
//!  a, a character device 0:0 a             D /a
//!  a/, marked opaque         a/{x,y}       C /a, D /a/x, D /a/y
//! ```
//!
//! A folder that was copied up only because something in it changed is listed
//! before that, as changed. What launching a container puts into its root for
//! itself, the places that are mounted over, is no change.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::ResolveFlag;

use super::archive::{Packer, same_attributes};
use super::entry::Entry;
use super::place::join;
use super::walk::is_gone;
use super::{VisitError, root};
use crate::container::ContainerDir;
use crate::launch::plan::UsernsPlan;
use crate::sys::{fs, xattr};

/// Where every container has something mounted, whatever its image.
const MOUNTED_OVER: [&[u8]; 6] = [
    b"proc",
    b"sys",
    b"dev",
    b"etc/hosts",
    b"etc/hostname",
    b"etc/resolv.conf",
];

/// Made for the files in it where the image has none.
const ETC: &[u8] = b"etc";

/// Begins the names by which a layer deletes (image-spec `layer.md`).
const WHITEOUT: &[u8] = b".wh.";

/// One change.
struct Change<'a> {
    kind: Kind,
    path: &'a [u8],
    /// What there is now.
    now: Option<&'a Entry>,
    /// Nothing of what the image has in this folder is there any more.
    opaque: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Added,
    Changed,
    Deleted,
    /// Deleted with the opaque folder it was in.
    Hidden,
}

/// Writes the list of changes; see [`isolazi_protocol::Content::Changes`].
pub fn list(dir: &ContainerDir, mut out: impl Write) -> Result<(), VisitError> {
    each(dir, |change| {
        let letter: &[u8] = match change.kind {
            Kind::Added => b"A/",
            Kind::Changed => b"C/",
            Kind::Deleted | Kind::Hidden => b"D/",
        };
        [letter, change.path, b"\0"]
            .iter()
            .try_for_each(|part| out.write_all(part))
            .map_err(VisitError::Unread)
    })?;
    out.flush().map_err(VisitError::Unread)
}

/// Writes the changes as a layer.
pub fn layer(dir: &ContainerDir, out: impl Write) -> Result<(), VisitError> {
    let record = dir.record();
    let record = record.map_err(VisitError::io(
        "read the configuration of",
        b"the container",
    ))?;
    // The folder of changes is seen as it is on disk.
    let ids = record.userns.filter(UsernsPlan::is_mapped_on_disk);
    let mut packer = Packer::new(out).of_container(ids.as_ref());
    each(dir, |change| {
        let Some(now) = change.now else {
            return match change.kind {
                Kind::Hidden => Ok(()),
                _ => packer.add_mark(&whiteout(change.path)),
            };
        };
        if now.name().starts_with(WHITEOUT) {
            return Err(VisitError::Whiteout(change.path.into()));
        }
        packer.add(change.path, now)?;
        match change.opaque {
            true => packer.add_mark(&join(change.path, b".wh..wh..opq")),
            false => Ok(()),
        }
    })?;
    packer.finish()
}

/// The name that hides `path`.
fn whiteout(path: &[u8]) -> Vec<u8> {
    let name_at = path.iter().rposition(|byte| *byte == b'/');
    let name_at = name_at.map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(name_at);
    [folder, WHITEOUT, name].concat()
}

fn each(
    dir: &ContainerDir,
    tell: impl FnMut(&Change<'_>) -> Result<(), VisitError>,
) -> Result<(), VisitError> {
    // Held, so that an ended container stays what it is meanwhile.
    let _root = root::ContainerRoot::open(dir, root::Purpose::Read)?;
    Comparison {
        upper: root::upper(dir)?,
        image: root::image(dir)?,
        ahead: Vec::new(),
        tell,
    }
    .run()
}

/// A folder under comparison.
struct Folder {
    path: Vec<u8>,
    names: std::vec::IntoIter<Vec<u8>>,
    /// The folder itself, until it is told or nothing in it has changed.
    untold: Option<Entry>,
}

struct Comparison<F> {
    upper: OwnedFd,
    image: OwnedFd,
    ahead: Vec<Folder>,
    tell: F,
}

impl<F: FnMut(&Change<'_>) -> Result<(), VisitError>> Comparison<F> {
    fn run(&mut self) -> Result<(), VisitError> {
        let top = self.now(b"")?;
        let top = top.ok_or_else(|| VisitError::NotFound("/".to_owned()))?;
        self.enter(&top, false)?;
        while let Some(folder) = self.ahead.last_mut() {
            let Some(name) = folder.names.next() else {
                self.ahead.pop();
                continue;
            };
            let path = join(&folder.path, &name);
            match self.now(&path)? {
                Some(now) => self.compare(&path, now)?,
                None => self.hidden(&path)?,
            }
        }
        Ok(())
    }

    fn compare(&mut self, path: &[u8], now: Entry) -> Result<(), VisitError> {
        let before = self.before(path)?;
        if fs::is_whiteout(&now.stat) {
            return match before {
                Some(_) => self.say(Kind::Deleted, path, None, false),
                None => Ok(()),
            };
        }
        let Some(before) = before else {
            return self.added(path, now);
        };
        if !now.is_folder() {
            return self.say(Kind::Changed, path, Some(&now), false);
        }
        if !before.is_folder() {
            self.say(Kind::Changed, path, Some(&now), false)?;
            return self.enter(&now, false);
        }
        let opaque = is_opaque(&now).map_err(VisitError::io("read the attributes of", path))?;
        let touched = path != ETC && time(&now) != time(&before);
        if opaque || touched || !same_attributes(&now, &before) {
            self.say(Kind::Changed, path, Some(&now), opaque)?;
            return self.enter(&now, opaque);
        }
        self.enter(&now, false)?;
        self.keep_for_later(now);
        Ok(())
    }

    fn added(&mut self, path: &[u8], now: Entry) -> Result<(), VisitError> {
        if MOUNTED_OVER.contains(&path) {
            return Ok(());
        }
        if !now.is_folder() {
            return self.say(Kind::Added, path, Some(&now), false);
        }
        if path == ETC {
            self.enter(&now, false)?;
            self.keep_for_later(now);
            return Ok(());
        }
        self.say(Kind::Added, path, Some(&now), false)?;
        self.enter(&now, false)
    }

    /// Something of the image that is not in the opaque folder that took the
    /// place of its own.
    fn hidden(&mut self, path: &[u8]) -> Result<(), VisitError> {
        match self.before(path)? {
            Some(_) => self.say(Kind::Hidden, path, None, false),
            None => Ok(()),
        }
    }

    /// Compares what is in a folder, next.
    fn enter(&mut self, now: &Entry, opaque: bool) -> Result<(), VisitError> {
        let failed = || VisitError::io("list", &now.path);
        let mut names = now.names().map_err(failed())?;
        if opaque && let Some(before) = self.before(&now.path)? {
            names.extend(before.names().map_err(failed())?);
            names.sort_unstable();
            names.dedup();
        }
        self.ahead.push(Folder {
            path: now.path.clone(),
            names: names.into_iter(),
            untold: None,
        });
        Ok(())
    }

    /// Tells the folder that was just entered once something in it has changed.
    fn keep_for_later(&mut self, folder: Entry) {
        if let Some(last) = self.ahead.last_mut() {
            last.untold = Some(folder);
        }
    }

    fn say(
        &mut self,
        kind: Kind,
        path: &[u8],
        now: Option<&Entry>,
        opaque: bool,
    ) -> Result<(), VisitError> {
        for index in 0..self.ahead.len() {
            if let Some(folder) = self.ahead[index].untold.take() {
                let existed = self.before(&folder.path)?.is_some();
                (self.tell)(&Change {
                    kind: if existed { Kind::Changed } else { Kind::Added },
                    path: &folder.path,
                    now: Some(&folder),
                    opaque: false,
                })?;
            }
        }
        (self.tell)(&Change {
            kind,
            path,
            now,
            opaque,
        })
    }

    fn now(&self, path: &[u8]) -> Result<Option<Entry>, VisitError> {
        look(&self.upper, path)
    }

    fn before(&self, path: &[u8]) -> Result<Option<Entry>, VisitError> {
        look(&self.image, path)
    }
}

fn look(root: &OwnedFd, path: &[u8]) -> Result<Option<Entry>, VisitError> {
    match Entry::open(root.as_fd(), path, ResolveFlag::empty()) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(VisitError::io("compare", path)(error)),
    }
}

fn time(entry: &Entry) -> (i64, i64) {
    (entry.stat.st_mtime, entry.stat.st_mtime_nsec)
}

fn is_opaque(folder: &Entry) -> std::io::Result<bool> {
    for name in [c"trusted.overlay.opaque", c"user.overlay.opaque"] {
        if xattr::value(folder.as_fd(), name)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

    /// An image and changes to it, as overlayfs would leave them.
    struct Trees(tempfile::TempDir);

    impl Trees {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["image", "upper"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            }
            Self(folder)
        }

        fn file(&self, path: &str) -> &Self {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
            self
        }

        fn folder(&self, path: &str) -> &Self {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(self.0.path().join(path))
                .unwrap();
            self
        }

        fn whiteout(&self, path: &str) -> &Self {
            use nix::sys::stat::{Mode, SFlag, mknod};
            let path = self.0.path().join(path);
            mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
            self
        }

        fn opaque(&self, path: &str) -> &Self {
            let folder = fs::open_dir(&self.0.path().join(path)).unwrap();
            fs::set_xattr(&folder, c"trusted.overlay.opaque", b"y").unwrap();
            self
        }

        /// Gives a folder of both the same time, as copying up does.
        fn copied_up(&self, path: &str) -> &Self {
            let open = |tree| std::fs::File::open(self.0.path().join(tree).join(path)).unwrap();
            let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            open("image").set_times(times).unwrap();
            open("upper").set_times(times).unwrap();
            self
        }

        fn changes(&self) -> Vec<String> {
            let mut lines = Vec::new();
            let open = |name: &str| fs::open_dir(&self.0.path().join(name)).unwrap();
            Comparison {
                upper: open("upper"),
                image: open("image"),
                ahead: Vec::new(),
                tell: |change: &Change<'_>| {
                    let path = String::from_utf8_lossy(change.path);
                    let mark = if change.opaque { " opaque" } else { "" };
                    lines.push(format!("{:?} {path}{mark}", change.kind));
                    Ok(())
                },
            }
            .run()
            .unwrap();
            lines
        }
    }

    fn is_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    #[test]
    fn parents_of_changes_are_changed_and_come_first() {
        let trees = Trees::new();
        trees.file("image/a/b/old").folder("image/a/same");
        trees
            .file("upper/a/b/old")
            .file("upper/a/b/new")
            .folder("upper/a/same");
        for folder in ["a/b", "a/same", "a"] {
            trees.copied_up(folder);
        }
        assert_eq!(
            trees.changes(),
            [
                "Changed a",
                "Changed a/b",
                "Added a/b/new",
                "Changed a/b/old"
            ]
        );
    }

    #[test]
    fn places_that_are_mounted_over_are_no_change() {
        let trees = Trees::new();
        trees
            .folder("upper/proc")
            .folder("upper/dev")
            .folder("upper/sys");
        trees.file("upper/etc/hosts").file("upper/etc/resolv.conf");
        assert_eq!(trees.changes(), [""; 0]);
        trees.file("upper/etc/motd");
        assert_eq!(trees.changes(), ["Added etc", "Added etc/motd"]);
    }

    #[test]
    fn a_folder_whose_mode_was_changed_is_changed() {
        let trees = Trees::new();
        trees.folder("image/a").folder("upper/a").copied_up("a");
        assert_eq!(trees.changes(), [""; 0]);
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(trees.0.path().join("upper/a"), mode).unwrap();
        assert_eq!(trees.changes(), ["Changed a"]);
    }

    #[test]
    fn deletions_and_opaque_folders() {
        if !is_root() {
            return;
        }
        let trees = Trees::new();
        trees
            .file("image/gone")
            .file("image/d/x")
            .file("image/d/y/z");
        trees.whiteout("upper/gone").whiteout("upper/never-was");
        trees.file("upper/d/x").opaque("upper/d");
        assert_eq!(
            trees.changes(),
            [
                "Changed d opaque",
                "Changed d/x",
                "Hidden d/y",
                "Deleted gone"
            ]
        );
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_or_link() {
        let trees = Trees::new();
        trees.file("image/f").file("upper/f/x").file("image/real/x");
        symlink("real", trees.0.path().join("image/l")).unwrap();
        trees.file("upper/l/x");
        assert_eq!(
            trees.changes(),
            ["Changed f", "Added f/x", "Changed l", "Added l/x"]
        );
    }

    #[test]
    fn whiteouts_are_named_after_what_they_hide() {
        assert_eq!(whiteout(b"a/b"), b"a/.wh.b");
        assert_eq!(whiteout(b"b"), b".wh.b");
    }
}
