//! What is packed is what comes out again, and goes where it may only.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use isolazi_protocol::Compression;

use super::*;
use crate::rootfs::unpack::{Limits, UnpackError, insert};
use crate::sys::fs::{open_dir, set_xattr};

fn root(folder: &tempfile::TempDir) -> OwnedFd {
    open_dir(folder.path()).unwrap()
}

/// The tar of `start` below `folder`, under the name `name`.
fn packed(folder: &tempfile::TempDir, start: &str, name: &str) -> Vec<u8> {
    let root = root(folder);
    let mut bytes = Vec::new();
    let walk = Walk::new(root.as_fd(), ResolveFlag::empty());
    pack(
        Packer::new(&mut bytes),
        walk,
        start.as_bytes(),
        name.as_bytes(),
    )
    .unwrap();
    bytes
}

fn inserted(tar: &[u8], folder: &tempfile::TempDir, below: &str) -> Result<(), UnpackError> {
    let limits = Limits::default();
    insert(
        tar,
        Compression::None,
        root(folder),
        below.as_bytes(),
        &limits,
        None,
    )
    .map(drop)
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A small tar, made by another program's rules.
fn tar(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, name, rest) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(nix::unistd::geteuid().as_raw().into());
        header.set_gid(nix::unistd::getegid().as_raw().into());
        header.set_mtime(1);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let content = match kind {
            tar::EntryType::Regular => rest.as_bytes(),
            _ => {
                header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest.as_bytes());
                b"".as_slice()
            }
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let from = tempfile::tempdir().unwrap();
    let long = "x".repeat(120);
    let tree = from.path().join("tree");
    fs::create_dir_all(tree.join(&long)).unwrap();
    fs::write(tree.join(&long).join("deep\u{e9}"), "deep").unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(tree.join("file"), tree.join("other")).unwrap();
    symlink(&long, tree.join("link")).unwrap();
    nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(tree.join("file"))
        .unwrap();
    let before_the_epoch = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    file.set_times(fs::FileTimes::new().set_modified(before_the_epoch))
        .unwrap();
    let has_xattrs = set_xattr(&file, c"user.note", b"a\nb\0c").is_ok();
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("below")).unwrap();
    inserted(&packed(&from, "tree", "copy"), &to, "below").unwrap();
    let copy = to.path().join("below/copy");
    let metadata = fs::metadata(copy.join("file")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_eq!(metadata.modified().unwrap(), before_the_epoch);
    assert_eq!(
        metadata.ino(),
        fs::metadata(copy.join("other")).unwrap().ino()
    );
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new(&long));
    assert_eq!(
        fs::read(copy.join(&long).join("deep\u{e9}")).unwrap(),
        b"deep"
    );
    let pipe = fs::symlink_metadata(copy.join("pipe")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.file_type()));
    if has_xattrs {
        let file = fs::File::open(copy.join("file")).unwrap();
        let value = crate::sys::xattr::value(file.as_fd(), c"user.note").unwrap();
        assert_eq!(value.as_deref(), Some(b"a\nb\0c".as_slice()));
    }
}

#[test]
fn other_programs_read_what_is_packed() {
    let from = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d").join(&long), "content").unwrap();
    let bytes = packed(&from, "", "");
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    assert_eq!(entries.next().unwrap().path_bytes().as_ref(), b"d/");
    let mut file = entries.next().unwrap();
    assert_eq!(file.path().unwrap().as_ref(), Path::new("d").join(&long));
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
    assert!(entries.next().is_none());
}

#[test]
fn folders_that_were_there_stay_and_links_in_them_are_inside() {
    use tar::EntryType::{Directory, Regular};
    let to = tempfile::tempdir().unwrap();
    fs::create_dir_all(to.path().join("app/kept")).unwrap();
    fs::create_dir(to.path().join("data")).unwrap();
    symlink("/data", to.path().join("app/link")).unwrap();
    let archive = tar(&[
        (Directory, "kept", ""),
        (Regular, "kept/new", "x"),
        (Regular, "link/x", "x"),
    ]);
    inserted(&archive, &to, "app").unwrap();
    assert!(to.path().join("app/kept/new").is_file());
    assert!(
        to.path().join("data/x").is_file(),
        "through the link, inside the root"
    );
    // Layers have names with a meaning; what is copied has not.
    inserted(&tar(&[(Regular, ".wh.kept", "x")]), &to, "app").unwrap();
    assert!(to.path().join("app/.wh.kept").is_file() && to.path().join("app/kept").is_dir());
}

#[test]
fn nothing_takes_the_place_of_another_kind() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let to = tempfile::tempdir().unwrap();
    fs::create_dir_all(to.path().join("folder/inside")).unwrap();
    fs::write(to.path().join("file"), "old").unwrap();
    for (kind, name) in [
        (Regular, "folder"),
        (Symlink, "folder"),
        (Directory, "file"),
    ] {
        let refused = inserted(&tar(&[(kind, name, "x")]), &to, "").unwrap_err();
        assert!(matches!(refused, UnpackError::Entry { .. }), "{refused}");
    }
    assert!(to.path().join("folder/inside").is_dir());
    inserted(&tar(&[(Symlink, "file", "x")]), &to, "").unwrap();
    assert!(to.path().join("file").is_symlink());
}

#[test]
fn names_that_climb_are_refused() {
    use tar::EntryType::{Link, Regular};
    let to = tempfile::tempdir().unwrap();
    fs::create_dir_all(to.path().join("app")).unwrap();
    fs::write(to.path().join("secret"), "x").unwrap();
    for entry in [
        (Regular, "../x", "x"),
        (Link, "x", "../secret"),
        (Link, "x", "/secret"),
    ] {
        assert!(inserted(&tar(&[entry]), &to, "app").is_err(), "{entry:?}");
    }
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2);
}

#[test]
fn nothing_is_written_to_the_kernels_own_files() {
    if !is_root() {
        return;
    }
    let host = open_dir(Path::new("/")).unwrap();
    let archive = tar(&[(tar::EntryType::Regular, "x", "x")]);
    for below in ["proc/sys/kernel", "sys/kernel"] {
        let limits = Limits::default();
        let refused = insert(
            archive.as_slice(),
            Compression::None,
            &host,
            below.as_bytes(),
            &limits,
            None,
        );
        assert!(matches!(refused, Err(UnpackError::Entry { .. })), "{below}");
    }
}

#[test]
fn zeros_become_holes() {
    let from = tempfile::tempdir().unwrap();
    let file = fs::File::create(from.path().join("sparse")).unwrap();
    file.set_len((16 << 20) + 5).unwrap();
    let to = tempfile::tempdir().unwrap();
    inserted(&packed(&from, "sparse", "copy"), &to, "").unwrap();
    let metadata = fs::metadata(to.path().join("copy")).unwrap();
    assert_eq!(metadata.len(), (16 << 20) + 5);
    assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
}
