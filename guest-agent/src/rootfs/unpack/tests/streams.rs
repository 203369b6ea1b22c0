//! What layers come in: compressed or not, whole or cut, slow or broken.

use std::io::{self, Read};

use super::*;

/// Gives a byte at a time, as a slow connection might.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(1);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn every_compression_gives_the_same_layer() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer.file("a", &[b'a'; 100_000]).file("b", b"b");
    let mut bytes = layer.bytes();
    // What follows the archive's end belongs to the digest.
    bytes.extend_from_slice(&[0; 10_240]);
    let (first, second) = bytes.split_at(50_000);
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".as_slice();
    for (compression, stream) in [
        (Compression::None, bytes.clone()),
        (Compression::Gzip, gzip(&bytes)),
        (Compression::Gzip, [gzip(first), gzip(second)].concat()),
        (Compression::Zstd, zstd(&bytes)),
        (
            Compression::Zstd,
            [&zstd(first), skippable, &zstd(second), skippable].concat(),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let target = File::open(folder.path()).unwrap();
        let options = Options::default();
        let unpacked = unpack(Slow(&stream), compression, &target, &options).unwrap();
        assert_eq!(unpacked.diff_id, digest(&bytes));
        assert_eq!(unpacked.bytes, bytes.len() as u64);
        assert_eq!(unpacked.entries, 2);
        assert_eq!(names(folder.path()), ["a", "b"]);
    }
}

#[test]
fn an_archive_may_end_without_its_zero_blocks() {
    let bytes = Layer::default().0;
    let empty = unpack_bytes(&bytes, Compression::None, &Options::default()).unwrap();
    assert_eq!((empty.bytes, empty.entries), (0, 0));
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer.file("a", b"a");
    for zeros in [0, 512] {
        let mut bytes = layer.0.clone();
        bytes.resize(bytes.len() + zeros, 0);
        let unpacked = unpack_bytes(&bytes, Compression::None, &Options::default()).unwrap();
        assert_eq!(unpacked.entries, 1);
    }
}

#[test]
fn corrupt_streams_are_told_from_broken_connections() {
    let mut layer = Layer::default();
    layer.entry(b'g', b"g").data(&[b'x'; 40_000]).add();
    let bytes = layer.bytes();
    let corrupt = |compression, stream: &[u8]| {
        let result = unpack_bytes(stream, compression, &Options::default());
        assert!(
            matches!(result, Err(UnpackError::Corrupt { .. })),
            "{result:?}"
        );
    };
    for (compression, good) in [
        (Compression::Gzip, gzip(&bytes)),
        (Compression::Zstd, zstd(&bytes)),
    ] {
        corrupt(compression, b"neither gzip nor zstd");
        corrupt(compression, &good[..good.len() - 3]);
        corrupt(compression, &[&good[..], b"trailing garbage"].concat());
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle..middle + 4]
            .iter_mut()
            .for_each(|byte| *byte ^= 0x55);
        let result = unpack_bytes(&flipped, compression, &Options::default());
        assert!(result.is_err() || result.is_ok_and(|it| it.diff_id != layer.diff_id()));
        let broken = io::Read::chain(&good[..20], Broken);
        let folder = tempfile::tempdir().unwrap();
        let target = File::open(folder.path()).unwrap();
        let result = unpack(broken, compression, &target, &Options::default());
        let Err(UnpackError::Source(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn an_archive_cut_anywhere_is_malformed_or_shorter() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let mut layer = Layer::default();
    layer
        .dir("d")
        .file("d/f", &[1; 600])
        .pax(&[("path", b"d/long")])
        .file("x", &[2; 10]);
    let whole = layer.0.clone();
    for length in (0..whole.len()).step_by(37).chain([512, 1024, 2560]) {
        let cut = Layer(whole[..length].to_vec());
        let pending = world.store.begin(&cut.diff_id()).unwrap();
        let options = Options::default();
        let result = unpack(&cut.0[..], Compression::None, pending.content(), &options);
        // Between entries, the padding of a file's last block included.
        let boundary = [0..=0, 512..=512, 1624..=2048, 3594..=4096]
            .iter()
            .any(|it| it.contains(&length));
        assert_eq!(result.is_ok(), boundary, "{length}: {result:?}");
    }
    world.assert_clean("cut");
}
