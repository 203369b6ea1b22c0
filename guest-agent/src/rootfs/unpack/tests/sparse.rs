//! Files with holes, in every format that GNU tar has for them.

use std::os::unix::fs::MetadataExt;

use super::*;

/// Data at 1 MiB and at 3 MiB of a file of 4 MiB, with the stretches' bytes.
const MIB: u64 = 1 << 20;
const STRETCHES: [(u64, &[u8]); 2] = [(MIB, &[b'a'; 700]), (3 * MIB, &[b'b'; 300])];

fn assert_sparse(layer: &Layer, path: &str) {
    let check = |content: &Path| {
        let file = content.join(path);
        let meta = fs::metadata(&file).unwrap();
        assert_eq!(meta.size(), 4 * MIB);
        assert!(meta.blocks() * 512 < MIB, "it has no holes");
        let data = fs::read(&file).unwrap();
        for (offset, bytes) in STRETCHES {
            let start = offset as usize;
            assert_eq!(&data[start..start + bytes.len()], bytes);
        }
        assert_eq!(data.iter().filter(|byte| **byte != 0).count(), 1000);
        assert_eq!(fs::read(content.join("next")).unwrap(), b"next");
    };
    World::new().unpack(layer, check).unwrap();
}

fn sparse_data() -> Vec<u8> {
    STRETCHES
        .iter()
        .flat_map(|(_, bytes)| bytes.to_vec())
        .collect()
}

#[test]
fn sparse_files_of_gnu_format_have_holes() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    layer
        .entry(b'S', b"sparse")
        .data(&sparse_data())
        .raw(|header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(4 * MIB);
            for (slot, (offset, bytes)) in gnu.sparse.iter_mut().zip(STRETCHES) {
                slot.set_offset(offset);
                slot.set_length(bytes.len() as u64);
            }
        })
        .add();
    layer.file("next", b"next");
    assert_sparse(&layer, "sparse");
}

#[test]
fn sparse_files_of_gnu_format_go_on_in_extension_blocks() {
    if !privileged() {
        return;
    }
    let mut layer = Layer::default();
    // The extension stands between the header and the data.
    layer
        .entry(b'S', b"sparse")
        .raw(|header| {
            header.set_size(1000);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(4 * MIB);
            gnu.set_is_extended(true);
            gnu.sparse[0].set_offset(MIB);
            gnu.sparse[0].set_length(700);
        })
        .add();
    let mut extension = tar::GnuExtSparseHeader::new();
    extension.sparse_mut()[0].set_offset(3 * MIB);
    extension.sparse_mut()[0].set_length(300);
    layer.0.extend_from_slice(extension.as_bytes());
    let mut data = sparse_data();
    data.resize(1024, 0);
    layer.0.extend_from_slice(&data);
    layer.file("next", b"next");
    assert_sparse(&layer, "sparse");
}

#[test]
fn sparse_files_of_pax_formats_have_holes() {
    if !privileged() {
        return;
    }
    let size = (4 * MIB).to_string();
    let map = format!("{MIB},700,{},300", 3 * MIB);
    let (first, second) = (MIB.to_string(), (3 * MIB).to_string());
    let format_0_0: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", first.as_bytes()),
        ("GNU.sparse.numbytes", b"700"),
        ("GNU.sparse.offset", second.as_bytes()),
        ("GNU.sparse.numbytes", b"300"),
    ];
    let format_0_1: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    let format_1_0: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    let mut leading = format!("2\n{MIB}\n700\n{}\n300\n", 3 * MIB).into_bytes();
    leading.resize(512, 0);
    leading.extend(sparse_data());
    for (records, name, data) in [
        (format_0_0, "sparse", sparse_data()),
        (format_0_1, "GNUSparseFile.1/sparse", sparse_data()),
        (format_1_0, "GNUSparseFile.1/sparse", leading),
    ] {
        let mut layer = Layer::default();
        layer.pax(records).file(name, &data).file("next", b"next");
        assert_sparse(&layer, "sparse");
    }
}
