//! What layers from strangers may try: every case ends in the error named here
//! or within the layer, leaves nothing, and spoils nothing for the next pull.

use super::super::NameError;
use super::*;

/// How a case must end.
#[derive(Debug)]
enum End {
    Name(NameError),
    LinkTarget,
    Malformed,
    Limit(&'static str),
    Value,
    /// This error of the system.
    Refused(i32),
    /// Unpacked, with a file of this path in the layer.
    Clamped(String),
}

fn matches(end: &End, result: &Result<(Unpacked, Vec<PathBuf>), UnpackError>) -> bool {
    match (end, result) {
        (End::Name(reason), Err(UnpackError::Name { source, .. })) => source == reason,
        (End::LinkTarget, Err(UnpackError::LinkTarget { .. })) => true,
        (End::Malformed, Err(UnpackError::Malformed { .. })) => true,
        (End::Limit(expected), Err(UnpackError::Limit { what, .. })) => what.contains(expected),
        (End::Value, Err(UnpackError::Value { .. })) => true,
        (End::Refused(errno), Err(UnpackError::Entry { source, .. })) => {
            source.raw_os_error() == Some(*errno)
        }
        (End::Clamped(path), Ok((_, paths))) => {
            paths.contains(&PathBuf::from(path.trim_start_matches('/')))
        }
        _ => false,
    }
}

type Case = (&'static str, End, Layer);

fn case(what: &'static str, end: End, build: impl FnOnce(&mut Layer)) -> Case {
    let mut layer = Layer::default();
    build(&mut layer);
    (what, end, layer)
}

fn names_that_climb(outside: &str, up: &str) -> Vec<Case> {
    let parent = || End::Name(NameError::Parent);
    let absolute = format!("{outside}/new");
    vec![
        case("..", parent(), |it| {
            it.file(&format!("{up}/new"), b"");
        }),
        case("a/../..", parent(), |it| {
            it.dir("a").file("a/../../b", b"");
        }),
        case("folder ..", parent(), |it| {
            it.dir("..");
        }),
        case("link ..", parent(), |it| {
            it.symlink("../l", "x");
        }),
        case("PAX ..", parent(), |it| {
            it.pax(&[("path", b"../x")]).file("x", b"");
        }),
        case("absolute", End::Clamped(absolute.clone()), |it| {
            it.file(&absolute, b"");
        }),
        case(
            "absolute whiteout",
            End::Clamped(format!("{outside}/secret")),
            |it| {
                it.file(&format!("{outside}/.wh.secret"), b"");
            },
        ),
        case("empty", End::Name(NameError::Empty), |it| {
            it.file("", b"");
        }),
        case("root file", End::Name(NameError::Root), |it| {
            it.file("./.", b"x");
        }),
        case("root link", End::Name(NameError::Root), |it| {
            it.symlink("/", outside);
        }),
        case("root hard link", End::Name(NameError::Root), |it| {
            it.file("a", b"").hard_link("/", "a");
        }),
        case("5000 bytes", End::Name(NameError::TooLong), |it| {
            it.file(&"d/".repeat(2500), b"");
        }),
        case("256 bytes in one", End::Name(NameError::TooLong), |it| {
            it.file(&"x".repeat(256), b"");
        }),
        case("NUL", End::Name(NameError::Nul), |it| {
            it.pax(&[("path", b"a\0b")]).file("x", b"");
        }),
    ]
}

fn ways_through_links(outside: &str, up: &str) -> Vec<Case> {
    let dangling = || End::Refused(libc::ENOTDIR);
    vec![
        case("file through a link", dangling(), |it| {
            it.symlink("l", outside).file("l/new", b"");
        }),
        case("file through a climbing link", dangling(), |it| {
            it.symlink("l", up).file("l/secret", b"");
        }),
        case(
            "file through a link, clamped",
            End::Clamped(format!("{outside}/new")),
            |it| {
                it.dir(outside).symlink("l", outside).file("l/new", b"");
            },
        ),
        case(
            "climbing, clamped",
            End::Clamped(format!("{outside}/new")),
            |it| {
                it.dir(outside).symlink("l", up).file("l/new", b"");
            },
        ),
        case("file over a link", End::Clamped("l".to_owned()), |it| {
            it.symlink("l", &format!("{outside}/secret"))
                .file("l", b"evil");
        }),
        case(
            "folder over a link",
            End::Clamped("l/new".to_owned()),
            |it| {
                it.symlink("l", &format!("{outside}/folder"));
                it.entry(b'5', b"l")
                    .mode(0o777)
                    .owner(9, 9)
                    .add()
                    .file("l/new", b"");
            },
        ),
        case("metadata over a link", End::Clamped("l".to_owned()), |it| {
            it.symlink("l", &format!("{outside}/secret"));
            it.pax(&[("SCHILY.xattr.user.x", b"x")]);
            it.entry(b'2', b"l")
                .link(&format!("{outside}/secret"))
                .owner(9, 9)
                .mode(0o777)
                .add();
        }),
        case("fifo over a link", End::Clamped("l".to_owned()), |it| {
            it.symlink("l", &format!("{outside}/secret"));
            it.entry(b'6', b"l").mode(0o777).add();
        }),
        case("folder through a link", dangling(), |it| {
            it.symlink("l", outside).dir("l/folder");
        }),
        case("whiteout through a link", dangling(), |it| {
            it.symlink("l", outside).file("l/.wh.secret", b"");
        }),
        case("opaque through a link", dangling(), |it| {
            it.symlink("l", outside).file("l/.wh..wh..opq", b"");
        }),
        case("opaque on a link", End::Refused(libc::ENOTDIR), |it| {
            it.symlink("folder", outside)
                .file("folder/.wh..wh..opq", b"");
        }),
        case("link loop", End::Refused(libc::ELOOP), |it| {
            it.symlink("a", "b").symlink("b", "a").file("a/x", b"");
        }),
        case("magic link", dangling(), |it| {
            it.symlink("p", &format!("/proc/self/root{outside}"));
            it.file("p/x", b"");
        }),
        case("through a file", End::Refused(libc::ENOTDIR), |it| {
            it.file("f", b"").file("f/x", b"");
        }),
        case("empty target", End::Refused(libc::ENOENT), |it| {
            it.symlink("l", "");
        }),
    ]
}

fn hard_links_out(outside: &str, up: &str) -> Vec<Case> {
    let secret = format!("{outside}/secret");
    vec![
        case("absolute target", End::LinkTarget, |it| {
            it.hard_link("h", &secret);
        }),
        case("climbing target", End::Name(NameError::Parent), |it| {
            it.hard_link("h", &format!("{up}/secret"));
        }),
        case("target through a link", End::LinkTarget, |it| {
            it.symlink("l", outside).hard_link("h", "l/secret");
        }),
        case(
            "target is a link, then written",
            End::Clamped("h".to_owned()),
            |it| {
                it.symlink("l", &secret)
                    .hard_link("h", "l")
                    .file("h", b"evil");
            },
        ),
        case("target is a folder", End::LinkTarget, |it| {
            it.dir("d").hard_link("h", "d");
        }),
        case("target is the root", End::LinkTarget, |it| {
            it.hard_link("h", "/");
        }),
        case("target is a whiteout", End::LinkTarget, |it| {
            it.file(".wh.w", b"").hard_link("h", "w");
        }),
        case("no target", End::Name(NameError::Empty), |it| {
            it.hard_link("h", "");
        }),
        case("missing target", End::LinkTarget, |it| {
            it.hard_link("h", "none");
        }),
        case("link through a link", End::Refused(libc::ENOTDIR), |it| {
            it.file("f", b"")
                .symlink("l", outside)
                .hard_link("l/h", "f");
        }),
    ]
}

fn whiteouts_of_nothing() -> Vec<Case> {
    let bare = || End::Name(NameError::BareWhiteout);
    vec![
        case("bare", bare(), |it| {
            it.file(".wh.", b"");
        }),
        case("of .", bare(), |it| {
            it.dir("a").file("a/.wh..", b"");
        }),
        case("of ..", bare(), |it| {
            it.dir("a").file("a/.wh...", b"");
        }),
        case(
            "folder named so",
            End::Name(NameError::InsideWhiteout),
            |it| {
                it.file(".wh.a/b", b"");
            },
        ),
    ]
}

fn headers_that_lie() -> Vec<Case> {
    let sized = |size: [u8; 12]| {
        move |it: &mut Layer| {
            it.entry(b'0', b"f")
                .raw(|header| header.as_old_mut().size = size)
                .add();
        }
    };
    let pax_size = |size: &'static str| {
        move |it: &mut Layer| {
            it.pax(&[("size", size.as_bytes())]).file("f", b"x");
        }
    };
    let mut huge = [0xff; 12];
    huge[..5].copy_from_slice(&[0x80, 0, 0, 0, 0x7f]);
    let limit = || End::Limit("bytes when unpacked (see [layers] in config.toml)");
    vec![
        case("negative size", End::Malformed, sized([0xff; 12])),
        case("huge size", limit(), sized(huge)),
        case(
            "size beyond 64 bits",
            End::Malformed,
            sized([0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        case(
            "octal size beyond the data",
            End::Malformed,
            sized(*b"00000777777\0"),
        ),
        case("no number", End::Malformed, sized(*b"00000009999\0")),
        case("huge PAX size", limit(), pax_size("9223372036854775807")),
        case(
            "PAX size beyond 64 bits",
            End::Malformed,
            pax_size("18446744073709551616"),
        ),
        case("negative PAX size", End::Malformed, pax_size("-1")),
        case(
            "PAX size beyond the data",
            End::Malformed,
            pax_size("10000000"),
        ),
        case("PAX size within the data", End::Malformed, |it| {
            it.pax(&[("size", b"512")]).file("f", &[b'x'; 2000]);
        }),
        case("extension of a GiB", End::Limit("extension"), |it| {
            it.entry(b'x', b"x")
                .raw(|header| header.set_size(1 << 30))
                .add();
        }),
        case("long name of a GiB", End::Limit("extension"), |it| {
            it.entry(b'L', b"x")
                .raw(|header| header.set_size(1 << 30))
                .add();
        }),
        case("global extension of a GiB", End::Limit("extension"), |it| {
            it.entry(b'g', b"x")
                .raw(|header| header.set_size(1 << 30))
                .add();
        }),
        case("extension of nothing", End::Malformed, |it| {
            it.pax(&[("path", b"x")]);
        }),
        case("wrong checksum", End::Malformed, |it| {
            it.file("f", b"");
            it.0[0] ^= 1;
        }),
        case("a lone zero block", End::Malformed, |it| {
            it.0.resize(512, 0);
            it.file("f", b"");
        }),
        case("unknown type", End::Malformed, |it| {
            it.entry(b'V', b"volume").add();
        }),
        case("owner that means none", End::Value, |it| {
            it.entry(b'0', b"f").owner(u64::from(u32::MAX), 0).add();
        }),
        case("group beyond 32 bits", End::Value, |it| {
            it.entry(b'0', b"f").owner(0, 1 << 32).add();
        }),
        case("device beyond the kernel's", End::Value, |it| {
            it.entry(b'4', b"d").device(1 << 12, 0).add();
        }),
        case(
            "attribute without a name",
            End::Refused(libc::ERANGE),
            |it| {
                it.pax(&[("SCHILY.xattr.", b"x")]).file("f", b"");
            },
        ),
        case("attribute of 300 KiB", End::Refused(libc::E2BIG), |it| {
            it.pax(&[("SCHILY.xattr.user.x", &[b'x'; 300 << 10])])
                .file("f", b"");
        }),
        case("a disk", End::Clamped("disk".to_owned()), |it| {
            it.entry(b'4', b"disk").device(8, 0).add();
        }),
    ]
}

fn sparse_files_that_lie() -> Vec<Case> {
    let gnu = |stretches: &'static [(u64, u64)], size: u64| {
        move |it: &mut Layer| {
            let entry = it.entry(b'S', b"s").data(&[b'x'; 1000]);
            let change = |header: &mut tar::Header| {
                let gnu = header.as_gnu_mut().unwrap();
                gnu.set_real_size(size);
                for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(stretches) {
                    slot.set_offset(*offset);
                    slot.set_length(*length);
                }
            };
            entry.raw(change).add();
        }
    };
    let pax = |records: &'static [(&str, &[u8])]| {
        move |it: &mut Layer| {
            it.pax(records).file("s", &[b'9'; 1000]);
        }
    };
    vec![
        case(
            "overlap",
            End::Malformed,
            gnu(&[(0, 600), (300, 400)], 9000),
        ),
        case(
            "beyond its size",
            End::Malformed,
            gnu(&[(8500, 1000)], 9000),
        ),
        case(
            "more data than mapped",
            End::Malformed,
            gnu(&[(0, 10)], 9000),
        ),
        case(
            "less data than mapped",
            End::Malformed,
            gnu(&[(0, 5000)], 9000),
        ),
        case(
            "beyond 64 bits",
            End::Malformed,
            gnu(&[(u64::MAX - 5, 1000)], u64::MAX),
        ),
        case(
            "larger than any file",
            End::Refused(libc::EFBIG),
            gnu(&[(0, 1000)], 1 << 62),
        ),
        case(
            "odd map",
            End::Malformed,
            pax(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"1,2,3")]),
        ),
        case(
            "no size",
            End::Malformed,
            pax(&[("GNU.sparse.map", b"0,1000")]),
        ),
        case(
            "unknown format",
            End::Malformed,
            pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.realsize", b"100")]),
        ),
        case(
            "map without an end",
            End::Malformed,
            pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"100")]),
        ),
    ]
}

#[test]
fn nothing_leaves_the_layer_and_nothing_stays() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let (outside, up) = (world.outside(), world.climbing());
    let groups = [
        names_that_climb(&outside, &up),
        ways_through_links(&outside, &up),
        hard_links_out(&outside, &up),
        whiteouts_of_nothing(),
        headers_that_lie(),
        sparse_files_that_lie(),
    ];
    for (what, end, layer) in groups.into_iter().flatten() {
        let list = |content: &Path| snapshot(content).into_keys().collect::<Vec<_>>();
        let result = world.unpack(&layer, list);
        assert!(matches(&end, &result), "{what}: {end:?}, but {result:?}");
        world.assert_clean(what);
    }
    world.assert_works();
}
