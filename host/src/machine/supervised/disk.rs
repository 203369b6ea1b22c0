//! The guest's disk: a sparse copy of the appliance's template, which the
//! agent grows to the size that it finds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::files;

/// Makes the disk at `path` where there is none; it appears whole or not at all. One
/// that is smaller than `bytes` grows.
pub(super) fn ensure(
    path: &Path,
    bytes: u64,
    template: impl FnOnce() -> io::Result<File>,
) -> io::Result<()> {
    if let Ok(disk) = File::options().write(true).open(path) {
        return match disk.metadata()?.len() < bytes {
            true => disk.set_len(bytes),
            false => Ok(()),
        };
    }
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let mut disk = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    files::copy_sparse(&mut template()?, &mut disk)?;
    disk.set_len(bytes)?;
    disk.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    const DISK_BYTES: u64 = 64 << 30;
    const BLOCK: usize = 64 << 10;

    #[test]
    fn a_disk_is_sparse_and_keeps_the_templates_content() {
        let folder = tempfile::tempdir().unwrap();
        let (template, disk) = (folder.path().join("t"), folder.path().join("disk.img"));
        let mut content = vec![0; 5 * BLOCK];
        content[3 * BLOCK + 7] = 1;
        fs::write(&template, &content).unwrap();
        ensure(&disk, DISK_BYTES, || File::open(&template)).unwrap();
        let made = fs::metadata(&disk).unwrap();
        assert_eq!(made.len(), DISK_BYTES);
        assert!(made.blocks() * 512 < DISK_BYTES / 1000);
        let mut start = vec![0; content.len()];
        File::open(&disk).unwrap().read_exact(&mut start).unwrap();
        assert!(start == content);
        let again = |bytes| ensure(&disk, bytes, || Err(io::ErrorKind::Other.into()));
        again(DISK_BYTES * 2).unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().len(), DISK_BYTES * 2);
        // What is there is never cut off.
        again(DISK_BYTES).unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().len(), DISK_BYTES * 2);
    }
}
