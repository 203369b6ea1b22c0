//! Files and folders that are replaced as a whole, and sparse copies.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A piece of zeros of this many bytes becomes a hole.
const BLOCK: usize = 64 << 10;

/// Replaces the file at `path`, or makes it, for the user alone. Whoever reads
/// it meanwhile has the old content or the new, never a part.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// Removes a folder and all in it, if it is there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Puts the folder `new` where `old` is, which is removed if it is there. On Linux
/// there is one of the two at every moment.
pub(crate) fn exchange_folder(new: &Path, old: &Path) -> io::Result<()> {
    if !old.exists() {
        return fs::rename(new, old);
    }
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let exchanged = renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE);
        // Not every file system can.
        if exchanged.is_ok() {
            return remove_folder(new);
        }
    }
    let aside = new.with_extension("old");
    remove_folder(&aside)?;
    fs::rename(old, &aside)?;
    fs::rename(new, old)?;
    remove_folder(&aside)
}

/// Writes back what a folder lists, where that can be asked for.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

/// Lets everybody execute what everybody may read.
pub(crate) fn make_executable(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Copies all of `from` to the new file `to`, with holes where it is zero; returns
/// how many bytes that are.
pub(crate) fn copy_sparse(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    let (mut block, mut copied) = (vec![0; BLOCK], 0);
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            // A hole at the end is not there before the length is.
            to.set_len(copied)?;
            return Ok(copied);
        }
        copied += count as u64;
        match block[..count].iter().all(|&byte| byte == 0) {
            true => to.seek(SeekFrom::Start(copied)).map(drop)?,
            false => to.write_all(&block[..count])?,
        }
    }
}
