//! What a hostile guest could send, and what a proper one does.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tar::Header;

use super::*;

/// A tar as it is dictated, sound or not.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o6755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        // By hand: the crate refuses what a guest may well send.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn folder(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", b"")
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(EntryType::Regular, name, "", content.as_bytes())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A folder with a target in it, and something beside that must stay.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("beside")).unwrap();
        fs::write(place.path("beside/kept"), "kept").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn named(&self, tar: Tar) -> Result<Extracted, ExtractError> {
        let destination = Destination::Named(self.0.path().to_owned(), "copy".into());
        extract(tar.bytes().as_slice(), &destination, false)
    }

    fn content(&self, tar: Tar) -> Result<Extracted, ExtractError> {
        let folder = self.path("into");
        let _ = fs::create_dir(&folder);
        extract(tar.bytes().as_slice(), &Destination::Content(folder), false)
    }

    fn untouched(&self) {
        let beside: Vec<_> = fs::read_dir(self.path("beside")).unwrap().collect();
        assert_eq!(beside.len(), 1);
        assert_eq!(
            fs::read_to_string(self.path("beside/kept")).unwrap(),
            "kept"
        );
    }
}

#[test]
fn a_tree_is_made_as_it_was() {
    let place = Place::new();
    let tar = Tar::new()
        .folder("./")
        .folder("./sub/")
        .file("./sub/file", "content")
        .link("./sub/link", "/absolute/target")
        .hard_link("./other", "./sub/file");
    assert_eq!(
        place.named(tar).unwrap(),
        Extracted {
            bytes: 7,
            left_out: 0
        }
    );
    assert_eq!(
        fs::read_to_string(place.path("copy/sub/file")).unwrap(),
        "content"
    );
    let target = fs::read_link(place.path("copy/sub/link")).unwrap();
    assert_eq!(target, Path::new("/absolute/target"));
    let inode = |name| fs::symlink_metadata(place.path(name)).unwrap().ino();
    assert_eq!(inode("copy/other"), inode("copy/sub/file"));
    for name in ["copy", "copy/sub", "copy/sub/file", "copy/sub/link"] {
        let metadata = fs::symlink_metadata(place.path(name)).unwrap();
        assert_eq!(metadata.mtime(), 1_000_000_000, "{name}");
    }
    let mode = fs::metadata(place.path("copy/sub/file"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-id bits");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../beside/x", "./../beside/x", "./a/../../beside/x", "./.."] {
        let place = Place::new();
        let refused = place.content(Tar::new().folder("./").file(name, "x"));
        assert!(
            matches!(refused, Err(ExtractError::Unexpected(_))),
            "{name}"
        );
        place.untouched();
    }
    // An absolute name is one below the copy.
    let place = Place::new();
    place
        .content(Tar::new().folder("./").file("/x", "x"))
        .unwrap();
    assert!(place.path("into/x").exists());
}

#[test]
fn links_that_came_are_not_followed() {
    for target in ["../beside", "beside", "/", "."] {
        let place = Place::new();
        let tar = Tar::new()
            .folder("./")
            .link("./out", target)
            .file("./out/kept", "overwritten");
        assert!(
            matches!(place.named(tar), Err(ExtractError::Io { .. })),
            "{target}"
        );
        place.untouched();
    }
}

#[test]
fn links_that_were_there_are_not_followed() {
    let place = Place::new();
    fs::create_dir(place.path("into")).unwrap();
    symlink("../beside", place.path("into/data")).unwrap();
    let tar = Tar::new()
        .folder("./")
        .folder("./data/")
        .file("./data/kept", "x");
    assert!(matches!(place.content(tar), Err(ExtractError::Io { .. })));
    // One of the very name is replaced, not written through.
    symlink("../beside/kept", place.path("into/kept")).unwrap();
    let tar = Tar::new().folder("./").file("./kept", "new");
    place.content(tar).unwrap();
    assert!(!place.path("into/kept").is_symlink());
    place.untouched();
}

#[test]
fn a_file_is_one_file() {
    let place = Place::new();
    let tar = Tar::new().link(".", "beside").file("./kept", "x");
    assert!(matches!(place.named(tar), Err(ExtractError::Unexpected(_))));
    let tar = Tar::new().file(".", "x").file(".", "y");
    assert!(matches!(place.named(tar), Err(ExtractError::Unexpected(_))));
    place.untouched();
}

#[test]
fn hard_links_reach_nothing_outside_the_copy() {
    for target in ["../beside/kept", "/beside/kept", "beside/kept"] {
        let place = Place::new();
        let tar = Tar::new().folder("./").hard_link("./x", target);
        assert!(place.named(tar).is_err(), "{target}");
        assert!(!place.path("copy/x").exists());
        place.untouched();
    }
    let place = Place::new();
    let tar = Tar::new()
        .folder("./")
        .link("./out", "../beside")
        .hard_link("./x", "./out/kept");
    assert!(place.named(tar).is_err());
    assert_eq!(fs::metadata(place.path("beside/kept")).unwrap().nlink(), 1);
}

#[test]
fn folders_and_files_do_not_take_each_others_place() {
    let place = Place::new();
    fs::create_dir_all(place.path("into/folder/inside")).unwrap();
    fs::write(place.path("into/file"), "old").unwrap();
    assert!(
        place
            .content(Tar::new().folder("./").file("./folder", "x"))
            .is_err()
    );
    assert!(
        place
            .content(Tar::new().folder("./").folder("./file/"))
            .is_err()
    );
    assert!(place.path("into/folder/inside").is_dir());
    assert_eq!(fs::read_to_string(place.path("into/file")).unwrap(), "old");
    let left = fs::read_dir(place.path("into")).unwrap().count();
    assert_eq!(left, 2, "no temporary files");
}

#[test]
fn devices_stay_where_they_are() {
    let place = Place::new();
    let tar = Tar::new()
        .folder("./")
        .add(EntryType::Char, "./null", "", b"")
        .add(EntryType::Fifo, "./pipe", "", b"");
    assert_eq!(place.named(tar).unwrap().left_out, 2);
    assert_eq!(fs::read_dir(place.path("copy")).unwrap().count(), 0);
}

#[test]
fn zeros_become_holes() {
    let place = Place::new();
    let zeros = "\0".repeat(8 << 20);
    place.named(Tar::new().file(".", &zeros)).unwrap();
    let metadata = fs::metadata(place.path("copy")).unwrap();
    assert_eq!(metadata.len(), 8 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
}

#[test]
fn what_is_no_archive_is_an_error() {
    let place = Place::new();
    let destination = Destination::Named(place.0.path().to_owned(), "copy".into());
    for bytes in [vec![], vec![0; 1024], vec![b'x'; 2000]] {
        assert!(extract(bytes.as_slice(), &destination, false).is_err());
    }
    let mut cut = Tar::new().file(".", &"x".repeat(5000)).bytes();
    cut.truncate(2000);
    assert!(matches!(
        extract(cut.as_slice(), &destination, false),
        Err(ExtractError::Read(_))
    ));
    assert!(!place.path("copy").exists(), "no half file");
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1);
}
