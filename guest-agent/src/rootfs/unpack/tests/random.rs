//! Random archives, made of the names and links that matter.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
struct RandomEntry {
    kind: u8,
    name: String,
    target: String,
    mode: u32,
    owner: u64,
    xattr: Option<&'static str>,
}

/// Mostly harmless, or every archive would end at its first entry.
fn part() -> impl Strategy<Value = &'static str> {
    let hostile = vec!["..", ".wh..", ".wh.", "proc", "self"];
    let special = vec![".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.x"];
    prop_oneof![
        24 => prop::sample::select(vec!["a", "b", "c"]),
        6 => prop::sample::select(vec!["OUTSIDE", "secret", "folder"]),
        2 => prop::sample::select(special),
        1 => prop::sample::select(hostile),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let parts = prop::collection::vec(part(), 1..4);
    (any::<bool>(), parts).prop_map(|(absolute, parts)| {
        format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
    })
}

/// What links point to: often what they must not lead to.
fn target() -> impl Strategy<Value = String> {
    let outside = vec![
        "OUTSIDE",
        "OUTSIDE/folder",
        "OUTSIDE/secret",
        "CLIMBING",
        "a",
        ".",
    ];
    let outside = prop::sample::select(outside);
    prop_oneof![outside.prop_map(str::to_owned), path()]
}

fn entry() -> impl Strategy<Value = RandomEntry> {
    let kinds = prop::sample::select(b"0000555512222222346S7".to_vec());
    let owner = prop::sample::select(vec![0, 1000]);
    let xattrs = vec!["user.x", "trusted.x", "trusted.overlay.opaque", "user.y"];
    let xattr = prop::option::weighted(0.1, prop::sample::select(xattrs));
    (kinds, path(), target(), any::<u32>(), owner, xattr).prop_map(
        |(kind, name, target, mode, owner, xattr)| RandomEntry {
            kind,
            name,
            target,
            mode,
            owner,
            xattr,
        },
    )
}

fn layer(entries: &[RandomEntry], world: &World) -> Layer {
    let outside = world.outside();
    let mut layer = Layer::default();
    for entry in entries {
        let name = entry.name.replace("OUTSIDE", &outside);
        let target = entry.target.replace("OUTSIDE", &outside);
        let target = target.replace("CLIMBING", &world.climbing());
        if let Some(xattr) = entry.xattr {
            layer.pax(&[(format!("SCHILY.xattr.{xattr}").as_str(), b"y")]);
        }
        let data: &[u8] = if entry.kind == b'0' { b"evil" } else { b"" };
        let new = layer.entry(entry.kind, name.as_bytes()).data(data);
        let new = new.mode(entry.mode & 0o7777).owner(entry.owner, 0);
        match entry.kind {
            b'1' | b'2' => new.link(&target).add(),
            _ => new.add(),
        };
    }
    layer
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
    ])
}

/// Runs `check` on many values of `strategy`, all in one world.
fn check_all<S: Strategy>(
    cases: u32,
    strategy: &S,
    check: impl Fn(&World, S::Value) -> Result<(), TestCaseError>,
) {
    if !privileged() {
        return;
    }
    let world = World::new();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(strategy, |value| check(&world, value))
        .unwrap();
}

#[test]
fn no_sequence_of_entries_reaches_outside() {
    let entries = prop::collection::vec(entry(), 1..12);
    check_all(500, &entries, |world, entries| {
        let _ = world.unpack(&layer(&entries, world), |_| ());
        world.assert_clean("random");
        Ok(())
    });
}

#[test]
fn damaged_archives_never_panic() {
    let entries = prop::collection::vec(entry(), 1..5);
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    let strategy = (entries, damage, compression());
    check_all(200, &strategy, |world, (entries, damage, compression)| {
        let plain = layer(&entries, world).bytes();
        let mut bytes = match compression {
            Compression::None => plain,
            Compression::Gzip => gzip(&plain),
            Compression::Zstd => zstd(&plain),
        };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let pending = world.store.begin(&digest(&bytes)).unwrap();
        let _ = unpack(
            &bytes[..],
            compression,
            pending.content(),
            &Options::default(),
        );
        drop(pending);
        world.assert_clean("damaged");
        Ok(())
    });
}

#[test]
fn arbitrary_bytes_never_panic() {
    let bytes = prop::collection::vec(any::<u8>(), 0..3000);
    check_all(
        200,
        &(bytes, compression()),
        |world, (bytes, compression)| {
            let pending = world.store.begin(&digest(&bytes)).unwrap();
            let _ = unpack(
                &bytes[..],
                compression,
                pending.content(),
                &Options::default(),
            );
            Ok(())
        },
    );
}
