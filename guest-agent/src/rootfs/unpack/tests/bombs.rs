//! Layers that are small to download and large to unpack.

use std::io::{self, Read};

use super::super::super::layers::StoreError;
use super::super::Limits;
use super::*;

/// Endless repetition of one piece.
struct Endless {
    first: Vec<u8>,
    again: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pending = match self.first.is_empty() {
            false => &self.first,
            true => &self.again,
        };
        let count = (&pending[self.at..]).read(buffer)?;
        self.at += count;
        if self.at == pending.len() {
            self.at = 0;
            self.first.clear();
        }
        Ok(count)
    }
}

fn endless(compress: fn(&[u8]) -> Vec<u8>) -> Endless {
    let mut start = Layer::default();
    start
        .entry(b'0', b"bomb")
        .raw(|header| header.set_size(10 << 30))
        .add();
    Endless {
        first: compress(&start.0),
        again: compress(&vec![0; 4 << 20]),
        at: 0,
    }
}

fn small_limits() -> Options {
    Options {
        limits: Limits {
            bytes: 64 << 20,
            entries: 100,
            ratio_counts_from: 16 << 20,
            ..Limits::default()
        },
        ..Options::default()
    }
}

#[test]
fn bombs_end_at_the_limits() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let diff_id = digest(b"whatever");
    let plain: fn(&[u8]) -> Vec<u8> = <[u8]>::to_vec;
    let all = small_limits();
    let cases = [
        (
            "plain",
            Compression::None,
            plain,
            all,
            "bytes when unpacked (see [layers] in config.toml)",
        ),
        (
            "gzip",
            Compression::Gzip,
            gzip as fn(&[u8]) -> Vec<u8>,
            all,
            "bytes when unpacked (see [layers] in config.toml)",
        ),
        (
            "zstd",
            Compression::Zstd,
            zstd,
            all,
            "bytes when unpacked (see [layers] in config.toml)",
        ),
    ];
    for (what, compression, compress, options, expected) in cases {
        // The header alone says that it is too much.
        assert_limit(
            &world,
            &diff_id,
            compression,
            endless(compress),
            &options,
            expected,
        );
        world.assert_clean(what);
    }
    let mut roomy = small_limits();
    roomy.limits.bytes = 11 << 30;
    for (compression, compress) in [
        (Compression::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
        (Compression::Zstd, zstd),
    ] {
        let expected = "times its compressed size (see [layers] in config.toml)";
        assert_limit(
            &world,
            &diff_id,
            compression,
            endless(compress),
            &roomy,
            expected,
        );
        world.assert_clean(expected);
    }
    // Without an honest header: the stream itself is counted.
    let mut trailing = endless(plain);
    trailing.first = vec![0; 1024];
    assert_limit(
        &world,
        &diff_id,
        Compression::None,
        trailing,
        &all,
        "bytes when unpacked (see [layers] in config.toml)",
    );
    let mut headers = endless(plain);
    let mut entry = Layer::default();
    entry.entry(b'g', b"g").add();
    headers.first = entry.0.clone();
    headers.again = entry.0;
    assert_limit(
        &world,
        &diff_id,
        Compression::None,
        headers,
        &all,
        "entries",
    );
    world.assert_clean("endless headers");
    world.assert_works();
}

fn assert_limit(
    world: &World,
    diff_id: &Digest,
    compression: Compression,
    reader: impl Read + Send,
    options: &Options,
    expected: &str,
) {
    let result = world.store.put(diff_id, compression, reader, options);
    let Err(StoreError::Unpack {
        source: UnpackError::Limit { what, .. },
        ..
    }) = &result
    else {
        panic!("{expected}: {result:?}");
    };
    assert_eq!(*what, expected);
}

#[test]
fn a_zstd_frame_cannot_ask_for_gigabytes() {
    // Magic, no single segment, window descriptor of 2^41 bytes, one raw block.
    let window: &[u8] = b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00";
    // A single segment that announces 1 TiB.
    let segment: &[u8] = b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\x01\0\0\x01\0\0";
    for huge in [window, segment] {
        let result = unpack_bytes(huge, Compression::Zstd, &Options::default());
        let Err(UnpackError::Corrupt { compression, .. }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(compression, "zstd");
    }
}
