//! Files: hashing, copies that stay sparse, and errors that name the path.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use isolazi_protocol::Digest;
use isolazi_protocol::appliance::FileEntry;
use sha2::{Digest as _, Sha256};

/// Files are read in pieces of this size; a piece of zeros becomes a hole.
const CHUNK: usize = 64 * 1024;

/// Something that could not be done with a file or folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the error for `action` on `path`; for `map_err`.
pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Digest and size of `bytes`.
pub(crate) fn entry_of_bytes(bytes: &[u8]) -> FileEntry {
    FileEntry {
        digest: Digest::from_bytes(&Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
    }
}

/// Digest and size of the file at `path`.
pub(crate) fn entry_of_file(path: &Path) -> Result<FileEntry, FileError> {
    let hash = || {
        let mut hasher = Hasher::default();
        let mut file = File::open(path)?;
        for_each_chunk(&mut file, |chunk| {
            hasher.update(chunk);
            Ok(())
        })?;
        Ok(hasher.finish())
    };
    hash().map_err(failed("read", path))
}

/// Copies `source` to the new file `target`, durably and with holes where the
/// content is zero, and says what was copied.
pub(crate) fn copy_sparse(source: &Path, target: &Path, mode: u32) -> Result<FileEntry, FileError> {
    let mut from = File::open(source).map_err(failed("read", source))?;
    let mut copy = || {
        let mut hasher = Hasher::default();
        let mut to = File::create_new(target)?;
        for_each_chunk(&mut from, |chunk| {
            hasher.update(chunk);
            write_or_skip(&mut to, chunk)
        })?;
        let entry = hasher.finish();
        to.set_len(entry.size)?;
        settle(&to, mode)?;
        Ok(entry)
    };
    copy().map_err(failed("write", target))
}

/// Writes the new file `target`, durably.
pub(crate) fn write_new(target: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = File::create_new(target)?;
        file.write_all(content)?;
        settle(&file, mode)
    };
    write().map_err(failed("write", target))
}

/// Writes back what a folder lists.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(failed("write back", path))
}

/// Removes a folder and all in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

fn settle(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

fn write_or_skip(to: &mut File, chunk: &[u8]) -> io::Result<()> {
    if chunk.iter().all(|&byte| byte == 0) {
        to.seek(SeekFrom::Current(chunk.len() as i64)).map(drop)
    } else {
        to.write_all(chunk)
    }
}

fn for_each_chunk(
    file: &mut File,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        each(&buffer[..count])?;
    }
}

#[derive(Default)]
struct Hasher {
    sha256: Sha256,
    size: u64,
}

impl Hasher {
    fn update(&mut self, chunk: &[u8]) {
        self.sha256.update(chunk);
        self.size += chunk.len() as u64;
    }

    fn finish(self) -> FileEntry {
        FileEntry {
            digest: Digest::from_bytes(&self.sha256.finalize().into()),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_is_the_same_and_stays_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("a"), dir.path().join("b"));
        let mut file = File::create(&source).unwrap();
        file.write_all(b"start").unwrap();
        file.set_len(8 << 20).unwrap();
        let copied = copy_sparse(&source, &target, 0o644).unwrap();
        assert_eq!(copied, entry_of_file(&source).unwrap());
        assert_eq!(copied, entry_of_file(&target).unwrap());
        assert_eq!(copied, entry_of_bytes(&fs::read(&target).unwrap()));
        let used = fs::metadata(&target).unwrap().blocks() * 512;
        assert!(used < 1 << 20, "{used}");
    }

    #[test]
    fn an_error_names_the_path() {
        let error = entry_of_file(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/file");
    }
}
