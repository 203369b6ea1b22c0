use super::*;

#[test]
fn an_empty_stream_is_an_empty_layer() {
    let folder = tempfile::tempdir().unwrap();
    let target = std::fs::File::open(folder.path()).unwrap();
    let empty: &[u8] = b"";
    let unpacked = unpack(empty, Compression::None, &target, &Options::default()).unwrap();
    assert_eq!((unpacked.bytes, unpacked.entries), (0, 0));
}
