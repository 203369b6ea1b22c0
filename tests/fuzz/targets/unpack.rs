//! A layer from a stranger: whatever it contains, nothing beside its own
//! folder changes, and nothing is left of one that is not kept.
//!
//! The first byte chooses the compression. In a plain archive every block gets
//! the checksum that it would need as a header, or hardly any input would get
//! past its first. Needs root, as unpacking does.

#![no_main]

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use isolazi_agent::rootfs::layers::LayerStore;
use isolazi_agent::rootfs::unpack::{Limits, Options, unpack};
use isolazi_protocol::{Compression, Digest};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: LayerStore,
    outside: Vec<(PathBuf, Status)>,
}

type Status = (u32, u32, u32, u64, u64, i64, i64);

fn status(path: &Path) -> Status {
    let it: Metadata = fs::symlink_metadata(path).expect("it is still there");
    // The change time tells of anything else: attributes, a touch and back.
    (
        it.mode(),
        it.uid(),
        it.gid(),
        it.nlink(),
        it.size(),
        it.ctime(),
        it.ctime_nsec(),
    )
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outside = folder.path().join("outside");
    fs::create_dir_all(outside.join("folder")).expect("a folder in it");
    fs::write(outside.join("secret"), "secret").expect("a file in it");
    let store = LayerStore::open(&folder.path().join("root")).expect("a store");
    let paths = [
        outside.clone(),
        outside.join("folder"),
        outside.join("secret"),
    ];
    let outside = paths.map(|path| (path.clone(), status(&path))).to_vec();
    World {
        folder,
        store,
        outside,
    }
});

const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut archive = data.to_vec();
    for block in archive.chunks_exact_mut(BLOCK) {
        if block.iter().any(|byte| *byte != 0) {
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let (compression, bytes) = match kind % 4 {
        0 => (Compression::Gzip, data.to_vec()),
        1 => (Compression::Zstd, data.to_vec()),
        _ => (Compression::None, with_checksums(data)),
    };
    let options = Options {
        limits: Limits {
            bytes: 1 << 20,
            entries: 200,
            ..Limits::default()
        },
        ..Options::default()
    };
    let world = &*WORLD;
    let pending = world
        .store
        .begin(&Digest::from_bytes(&[0; 32]))
        .expect("room");
    let _ = unpack(&bytes[..], compression, pending.content(), &options);
    drop(pending);
    for (path, before) in &world.outside {
        assert_eq!(status(path), *before, "{}", path.display());
    }
    let layers = fs::read_dir(world.folder.path().join("root/layers")).expect("a store");
    assert_eq!(layers.count(), 2, "something is left in the store");
});
