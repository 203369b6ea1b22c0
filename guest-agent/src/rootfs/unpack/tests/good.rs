//! What images contain, field by field.

use super::*;

fn content(nodes: &BTreeMap<PathBuf, Node>, path: &str) -> String {
    String::from_utf8(nodes[Path::new(path)].content.clone()).unwrap()
}

fn unpacked(layer: &Layer) -> BTreeMap<PathBuf, Node> {
    World::new().unpack(layer, snapshot).unwrap().1
}

#[test]
fn owners_modes_and_times_are_the_archives() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer
        .entry(b'5', b"./")
        .mode(0o1755)
        .owner(0, 3)
        .mtime(11)
        .add();
    layer
        .entry(b'5', b"dir")
        .mode(0o2700)
        .owner(7, 8)
        .mtime(12)
        .add();
    layer
        .entry(b'0', b"dir/file")
        .mode(0o4751)
        .owner(1000, 70_000)
        .mtime(13)
        .data(b"x")
        .add();
    layer.entry(b'0', b"dir/root").mode(0).mtime(13).add();
    layer
        .entry(b'2', b"dir/link")
        .link("/nowhere")
        .owner(9, 10)
        .mtime(14)
        .add();
    layer
        .entry(b'6', b"dir/fifo")
        .mode(0o622)
        .owner(11, 12)
        .mtime(15)
        .add();
    layer
        .entry(b'3', b"dir/null")
        .mode(0o666)
        .device(1, 3)
        .mtime(16)
        .add();
    layer
        .entry(b'4', b"dir/disk")
        .mode(0o660)
        .device(259, 70_000)
        .mtime(17)
        .add();
    let nodes = unpacked(&layer);
    for (path, kind, mode, owner, mtime) in [
        ("", libc::S_IFDIR, 0o1755, (0, 3), 11),
        ("dir", libc::S_IFDIR, 0o2700, (7, 8), 12),
        ("dir/file", libc::S_IFREG, 0o4751, (1000, 70_000), 13),
        ("dir/root", libc::S_IFREG, 0, (0, 0), 13),
        ("dir/link", libc::S_IFLNK, 0o777, (9, 10), 14),
        ("dir/fifo", libc::S_IFIFO, 0o622, (11, 12), 15),
        ("dir/null", libc::S_IFCHR, 0o666, (0, 0), 16),
        ("dir/disk", libc::S_IFBLK, 0o660, (0, 0), 17),
    ] {
        let node = &nodes[Path::new(path)];
        assert_eq!(node.mode, kind | mode, "{path}");
        assert_eq!(node.owner, owner, "{path}");
        assert_eq!(node.mtime, (mtime, 0), "{path}");
    }
    assert_eq!(nodes[Path::new("dir/null")].device, libc::makedev(1, 3));
    assert_eq!(
        nodes[Path::new("dir/disk")].device,
        libc::makedev(259, 70_000)
    );
    assert_eq!(content(&nodes, "dir/link"), "/nowhere");
    assert_eq!(nodes.len(), 8);
}

#[test]
fn times_of_folders_survive_what_is_made_in_them_later() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer.entry(b'5', b"a").mode(0o755).mtime(1).add();
    layer.entry(b'5', b"a/b").mode(0o755).mtime(2).add();
    layer
        .file("a/b/1", b"")
        .file("a/2", b"")
        .file("a/b/3", b"")
        .file("4", b"");
    layer
        .file("a/.wh.gone", b"")
        .dir("a/c/d")
        .file("a/b/1/../x".trim_end_matches("/../x"), b"new");
    layer.entry(b'5', b"a/c").mode(0o755).mtime(3).add();
    layer.file("a/c/d/5", b"");
    layer.entry(b'5', b".").mode(0o755).mtime(4).add();
    layer.file("6", b"");
    let nodes = unpacked(&layer);
    for (path, mtime) in [
        ("", 4),
        ("a", 1),
        ("a/b", 2),
        ("a/c", 3),
        ("a/c/d", 1_000_000_000),
    ] {
        assert_eq!(nodes[Path::new(path)].mtime, (mtime, 0), "{path}");
    }
    assert_eq!(content(&nodes, "a/b/1"), "new");
}

#[test]
fn pax_records_replace_what_the_header_says() {
    if !privileged() {
        return;
    }
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let capability = b"\x01\0\0\x02\0\x20\0\n\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    let mut layer = Layer::default();
    layer.pax(&[
        ("path", long.as_bytes()),
        ("size", b"5"),
        ("uid", b"2097152"),
        ("gid", b"4294967294"),
        ("mtime", b"1700000000.123456789"),
        ("SCHILY.xattr.user.note", b"two\nlines"),
        ("SCHILY.xattr.security.capability", capability),
    ]);
    layer
        .entry(b'0', b"short")
        .data(b"hello")
        .raw(|header| header.set_size(0))
        .add();
    layer.pax(&[("linkpath", long.as_bytes())]);
    layer.symlink("link", "short").file("last", b"");
    let nodes = unpacked(&layer);
    let file = &nodes[Path::new(&long)];
    assert_eq!(file.content, b"hello");
    assert_eq!(file.owner, (2_097_152, 4_294_967_294));
    assert_eq!(file.mtime, (1_700_000_000, 123_456_789));
    assert_eq!(file.xattrs["user.note"], b"two\nlines");
    assert_eq!(file.xattrs["security.capability"], capability);
    assert_eq!(content(&nodes, "link"), long);
    // Records count for one entry only.
    assert_eq!(nodes[Path::new("last")].xattrs.len(), 0);
}

#[test]
fn gnu_long_names_and_any_bytes_are_names() {
    if !privileged() {
        return;
    }
    let long = ["n".repeat(200).as_str(); 15].join("/");
    let mut layer = Layer::default();
    layer.file(&long, b"deep").symlink("link", &long);
    layer.entry(b'0', b"\xff\xfe\n\x1b[31m").data(b"odd").add();
    let nodes = unpacked(&layer);
    assert_eq!(content(&nodes, &long), "deep");
    assert_eq!(content(&nodes, "link"), long);
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"\xff\xfe\n\x1b[31m"));
    assert_eq!(nodes[odd].content, b"odd");
}

#[test]
fn ustar_names_have_a_prefix() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    let mut header = tar::Header::new_ustar();
    let path = format!("{}/{}", "p".repeat(90), "n".repeat(90));
    header.set_path(&path).unwrap();
    header.set_mode(0o600);
    header.set_cksum();
    layer.0.extend_from_slice(header.as_bytes());
    assert!(unpacked(&layer).contains_key(Path::new(&path)));
}

#[test]
fn hard_links_share_a_file_and_may_repeat() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer
        .dir("a")
        .dir("b")
        .symlink("s", "a")
        .file("a/file", b"data")
        .symlink("a/sym", "file");
    layer
        .hard_link("b/one", "a/file")
        .hard_link("b/two", "/s/./file");
    layer
        .hard_link("b/one", "a/file")
        .hard_link("a/file", "a/file");
    layer.hard_link("b/sym", "a/sym");
    layer.file("b/three", b"").hard_link("b/three", "b/one");
    let nodes = unpacked(&layer);
    for path in ["a/file", "b/one", "b/two", "b/three"] {
        assert_eq!(content(&nodes, path), "data");
        assert_eq!(nodes[Path::new(path)].links, 4, "{path}");
    }
    assert_eq!(nodes[Path::new("b/sym")].mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(nodes[Path::new("b/sym")].links, 2);
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer
        .file("file-dir", b"x")
        .dir("file-dir")
        .file("file-dir/in", b"1");
    layer
        .dir("dir-file")
        .file("dir-file/in", b"")
        .dir("dir-file/deep")
        .file("dir-file", b"2");
    layer
        .symlink("link-dir", "file-dir")
        .dir("link-dir")
        .file("link-dir/in", b"3");
    layer
        .file("linked", b"4")
        .hard_link("link", "linked")
        .file("link", b"5");
    layer
        .dir("kept")
        .file("kept/in", b"6")
        .entry(b'5', b"kept")
        .mode(0o711)
        .add();
    layer.file("node", b"").entry(b'6', b"node").add();
    let nodes = unpacked(&layer);
    for (path, expected) in [
        ("file-dir/in", "1"),
        ("dir-file", "2"),
        ("link-dir/in", "3"),
        ("linked", "4"),
        ("link", "5"),
        ("kept/in", "6"),
    ] {
        assert_eq!(content(&nodes, path), expected, "{path}");
    }
    assert_eq!(nodes[Path::new("kept")].mode, libc::S_IFDIR | 0o711);
    assert_eq!(nodes[Path::new("node")].mode & libc::S_IFMT, libc::S_IFIFO);
}

#[test]
fn links_to_folders_lead_to_them_within_the_layer() {
    if !privileged() {
        return;
    }
    // Nothing outside has this name, should a broken resolver ever run this.
    let mut layer = Layer::default();
    layer
        .dir("only-here")
        .dir("only-here/lib")
        .symlink("lib", "only-here/lib")
        .symlink("abs", "/only-here");
    layer.symlink("up", "../../../../../only-here");
    layer
        .file("lib/1", b"1")
        .file("abs/lib/2", b"2")
        .file("up/3", b"3")
        .file("abs/new/4", b"4");
    let nodes = unpacked(&layer);
    for (path, expected) in [
        ("only-here/lib/1", "1"),
        ("only-here/lib/2", "2"),
        ("only-here/3", "3"),
        ("only-here/new/4", "4"),
    ] {
        assert_eq!(content(&nodes, path), expected);
    }
    assert_eq!(nodes[Path::new("lib")].mode & libc::S_IFMT, libc::S_IFLNK);
}

#[test]
fn a_link_that_is_replaced_no_longer_leads_anywhere() {
    if !privileged() {
        return;
    }
    // `s/s` is `s` itself, by way of the link that it replaces.
    let mut layer = Layer::default();
    layer
        .symlink("s", ".")
        .file("s/before", b"")
        .dir("s/s")
        .file("s/after", b"");
    let nodes = unpacked(&layer);
    let paths: Vec<_> = nodes.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "before", "s", "s/after"]);
}

#[test]
fn whiteouts_below_a_file_that_replaced_their_folder_hide_nothing() {
    let mut layer = Layer::default();
    layer
        .file("d/f", b"a file now")
        .file("d/f/.wh.x", b"")
        .file("d/f/deeper/.wh.y", b"")
        .file("d/f/.wh..wh..opq", b"");
    let nodes = unpacked(&layer);
    let paths: Vec<_> = nodes.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "d", "d/f"]);
    assert_eq!(content(&nodes, "d/f"), "a file now");
}

#[test]
fn whiteouts_take_overlayfs_form() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer
        .dir("d")
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .file("d/new", b"");
    layer
        .file("implied/.wh.x", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .file(".wh..wh.aufs", b"");
    layer
        .file("both", b"b")
        .file(".wh.both", b"")
        .file(".wh.both", b"");
    layer.file(".wh.refilled", b"").file("refilled/in", b"");
    layer.dir("again").file(".wh.again", b"");
    layer.file(".wh.file", b"").file("file", b"f");
    let nodes = unpacked(&layer);
    let whiteouts: Vec<_> = nodes
        .iter()
        .filter(|(_, node)| node.mode == libc::S_IFCHR)
        .collect();
    let paths: Vec<_> = whiteouts
        .iter()
        .map(|(path, _)| path.to_str().unwrap())
        .collect();
    assert_eq!(paths, ["d/gone", "implied/x"]);
    assert!(whiteouts.iter().all(|(_, node)| node.device == 0));
    let opaque = |node: &Node| {
        node.xattrs
            .get("trusted.overlay.opaque")
            .is_some_and(|it| it == b"y")
    };
    let paths: Vec<_> = nodes
        .iter()
        .filter(|(_, node)| opaque(node))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        paths,
        [Path::new("again"), Path::new("d"), Path::new("refilled")]
    );
    assert_eq!(content(&nodes, "both"), "b");
    assert_eq!(content(&nodes, "file"), "f");
    assert!(
        !nodes
            .keys()
            .any(|path| path.to_str().unwrap().contains(".wh."))
    );
}

#[test]
fn opaque_folders_can_be_marked_for_userxattr_mounts() {
    if !privileged() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut layer = Layer::default();
    layer.dir("d").file("d/.wh..wh..opq", b"");
    let options = Options {
        overlay_xattrs: super::super::OverlayXattrs::User,
        ..Options::default()
    };
    let target = File::open(folder.path()).unwrap();
    unpack(&layer.bytes()[..], Compression::None, &target, &options).unwrap();
    let node = &snapshot(folder.path())[Path::new("d")];
    assert_eq!(node.xattrs["user.overlay.opaque"], b"y");
}

#[test]
fn what_gnu_tar_makes_comes_out_as_it_went_in() {
    if !privileged() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), vec![7; 100_000]).unwrap();
    fs::hard_link(source.join("sub/file"), source.join("same")).unwrap();
    std::os::unix::fs::symlink("sub/file", source.join("link")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).unwrap();
    let expected = snapshot(&source);
    for format in ["gnu", "pax"] {
        let tar = std::process::Command::new("tar")
            .args(["--sparse", "--numeric-owner", "--format", format, "-cC"])
            .arg(&source)
            .arg(".")
            .output();
        let Ok(tar) = tar else {
            eprintln!("skipped: there is no tar program to compare with");
            return;
        };
        let target = tempfile::tempdir().unwrap();
        let opened = File::open(target.path()).unwrap();
        unpack(
            &tar.stdout[..],
            Compression::None,
            &opened,
            &Options::default(),
        )
        .unwrap();
        let mut made = snapshot(target.path());
        if format == "gnu" {
            let times = expected.iter().map(|(path, node)| (path, node.mtime));
            for (path, mtime) in times {
                let node = made.get_mut(path).unwrap();
                assert_eq!(node.mtime, (mtime.0, 0));
                node.mtime = mtime;
            }
        }
        assert_eq!(made, expected, "{format}");
    }
}

#[test]
fn attributes_that_a_file_cannot_have_are_left_out() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer.pax(&[
        ("SCHILY.xattr.user.on.a.link", b"x"),
        ("SCHILY.xattr.trusted.kept", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
    ]);
    layer.symlink("link", "target");
    let (unpacked, nodes) = World::new().unpack(&layer, snapshot).unwrap();
    assert_eq!(unpacked.ignored_xattrs, 1);
    let xattrs = &nodes[Path::new("link")].xattrs;
    let names: Vec<_> = xattrs.keys().collect();
    assert_eq!(names, ["trusted.kept"]);
}
