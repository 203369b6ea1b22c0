use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::super::unpack::tests::{Layer, World, names, privileged, snapshot};
use super::*;

fn put(store: &LayerStore, layer: &Layer) -> Result<PathBuf, StoreError> {
    let bytes = layer.bytes();
    let options = Options::default();
    store.put(&layer.diff_id(), Compression::None, &bytes[..], &options)
}

fn small_layer() -> Layer {
    let mut layer = Layer::default();
    layer.dir("bin").file("bin/true", b"#!");
    layer
}

#[test]
fn a_layer_is_there_once_it_is_whole() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let (layer, other) = (small_layer(), Layer::default());
    let ids = [layer.diff_id(), other.diff_id(), layer.diff_id()];
    assert_eq!(world.store.missing(&ids), ids[..2]);
    let path = put(&world.store, &layer).unwrap();
    assert_eq!(world.store.missing(&ids), ids[1..2]);
    assert_eq!(world.store.path(&ids[0]), Some(path.clone()));
    assert_eq!(snapshot(&path).len(), 3);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    world.assert_clean("put");
    // A second time, nothing is read.
    let options = Options::default();
    let unread = world
        .store
        .put(&ids[0], Compression::Gzip, &b"not gzip"[..], &options);
    assert_eq!(unread.unwrap(), path);
    // Another opener sees the same.
    assert!(LayerStore::open(&world.root()).unwrap().contains(&ids[0]));
}

#[test]
fn pruning_takes_what_nobody_wants_and_waits_for_containers_being_made() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let (wanted, other) = (small_layer(), Layer::default());
    put(&world.store, &wanted).unwrap();
    put(&world.store, &other).unwrap();
    let pending = world.store.begin(&Digest::from_bytes(&[7; 32])).unwrap();
    let keep = std::collections::HashSet::from([wanted.diff_id()]);

    let hold = world.store.hold().unwrap();
    let (store, asked) = (world.store.clone(), keep.clone());
    let pruning = thread::spawn(move || store.prune(|| Ok::<_, StoreError>(asked)));
    thread::sleep(std::time::Duration::from_millis(100));
    assert!(world.store.contains(&other.diff_id()), "it is held");
    drop(hold);

    let removed = pruning.join().unwrap().unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].diff_id, other.diff_id());
    assert_eq!(
        world
            .store
            .missing(&[wanted.diff_id(), other.diff_id()])
            .len(),
        1
    );
    assert!(snapshot(&world.store.path(&wanted.diff_id()).unwrap()).len() > 1);
    drop(pending);
    world.assert_clean("prune");

    let failing = world.store.prune(|| {
        Err::<std::collections::HashSet<Digest>, _>(StoreError::Open {
            path: PathBuf::new(),
            source: io::ErrorKind::Other.into(),
        })
    });
    assert!(failing.is_err());
    assert!(world.store.contains(&wanted.diff_id()), "asking failed");
}

#[test]
fn other_content_than_asked_for_is_not_kept() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let asked = Layer::default().diff_id();
    let bytes = small_layer().bytes();
    let options = Options::default();
    let result = world
        .store
        .put(&asked, Compression::None, &bytes[..], &options);
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }));
    assert_eq!(error.code(), ErrorCode::BadLayer);
    assert_eq!(world.store.missing(std::slice::from_ref(&asked)), [asked]);
    world.assert_clean("mismatch");
}

#[test]
fn two_may_put_the_same_layer_at_once() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let layer = small_layer();
    let first = world.store.begin(&layer.diff_id()).unwrap();
    thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| put(&world.store, &layer).unwrap()))
            .collect();
        let paths: Vec<_> = racers.into_iter().map(|it| it.join().unwrap()).collect();
        assert!(paths.windows(2).all(|pair| pair[0] == pair[1]));
    });
    // And one that was slower than all of them.
    let bytes = layer.bytes();
    let options = Options::default();
    let unpacked = unpack(&bytes[..], Compression::None, first.content(), &options).unwrap();
    let path = first.commit(&unpacked).unwrap();
    assert_eq!(snapshot(&path).len(), 3);
    world.assert_clean("race");
}

#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_kept() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let layers = world.root().join("layers");
    let pending = world.store.begin(&Layer::default().diff_id()).unwrap();
    let living = names(&layers)
        .into_iter()
        .find(|name| name.starts_with(".tmp-"));
    let dead = layers.join(".tmp-4000000-0/diff/forbidden/deep");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("file"), "").unwrap();
    std::os::unix::fs::symlink(world.outside(), dead.join("link")).unwrap();
    let forbidden = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(dead.parent().unwrap(), forbidden).unwrap();

    LayerStore::open(&world.root()).unwrap().sweep();
    let expected = [living.unwrap(), ".lock".to_owned(), "sha256".to_owned()];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(names(&layers), expected);
    drop(pending);
    world.assert_clean("leftovers");
}

#[test]
fn removing_does_not_depend_on_depth() {
    let folder = tempfile::tempdir().unwrap();
    let top = File::open(folder.path()).unwrap();
    let mut current = make_folder(top.as_fd(), "deep", 0o755).unwrap();
    for level in 0..1500 {
        make_folder(current.as_fd(), &format!(".{level}"), 0o755).unwrap();
        drop(fs::open_lock_at(current.as_fd(), b"file").unwrap());
        current = make_folder(current.as_fd(), "d", 0o755).unwrap();
    }
    remove_at(top.as_fd(), b"deep").unwrap();
    assert!(names(folder.path()).is_empty());
}

/// Runs `check` in a mount namespace of its own, with a file system of a few
/// megabytes in memory at the path it is given.
fn with_small_disk(size: &str, check: impl FnOnce(&Path) + Send) {
    let folder = tempfile::tempdir().unwrap();
    let (path, none) = (folder.path(), None::<&str>);
    let options = format!("size={size},mode=755");
    thread::scope(|scope| {
        let run = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            let options = Some(options.as_str());
            mount(
                Some("tmpfs"),
                path,
                Some("tmpfs"),
                MsFlags::empty(),
                options,
            )
            .unwrap();
            check(path);
        });
        run.join().unwrap();
    });
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    if !privileged() {
        return;
    }
    with_small_disk("1M", |disk| {
        let store = LayerStore::open(disk).unwrap();
        let mut large = Layer::default();
        large.dir("d").file("d/large", &vec![b'x'; 2 << 20]);
        let error = put(&store, &large).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageFull);
        assert_eq!(names(&disk.join("layers")), [".lock", "sha256"]);
        assert!(names(&disk.join("layers/sha256")).is_empty());
        put(&store, &small_layer()).unwrap();
    });
}

#[test]
fn overlayfs_stacks_the_layers() {
    if !privileged() {
        return;
    }
    with_small_disk("8M", |disk| {
        let store = LayerStore::open(disk).unwrap();
        let mut lower = Layer::default();
        lower
            .dir("opaque")
            .file("opaque/old", b"")
            .dir("gone")
            .file("gone/x", b"");
        lower
            .dir("kept")
            .file("kept/old", b"")
            .file("refilled/old", b"")
            .file("file", b"1");
        let mut upper = Layer::default();
        upper
            .dir("opaque")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"");
        upper.file(".wh.gone", b"").file("kept/new", b"");
        upper
            .file(".wh.refilled", b"")
            .file("refilled/new", b"")
            .file("file", b"2");
        let (lower, upper) = (put(&store, &lower).unwrap(), put(&store, &upper).unwrap());

        let merged = disk.join("merged");
        std::fs::create_dir(&merged).unwrap();
        let options = format!("lowerdir={}:{}", upper.display(), lower.display());
        let (kind, flags) = (Some("overlay"), MsFlags::MS_RDONLY);
        mount(kind, &merged, kind, flags, Some(options.as_str())).unwrap();
        let paths: Vec<_> = snapshot(&merged).into_keys().collect();
        let expected = [
            "",
            "file",
            "kept",
            "kept/new",
            "kept/old",
            "opaque",
            "opaque/new",
            "refilled",
            "refilled/new",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert_eq!(std::fs::read(merged.join("file")).unwrap(), b"2");
    });
}
