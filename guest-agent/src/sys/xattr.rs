//! Reading extended attributes (xattr(7)) of what is open.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Largest list of names and largest value that Linux knows
/// (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST_BYTES: usize = 64 << 10;

/// All extended attributes that the caller may see; none where the file system
/// has none.
pub fn all(file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let names = match list(file) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        match get(file, name) {
            Ok(value) => found.push((name.to_owned(), value)),
            // Removed meanwhile.
            Err(Errno::ENODATA) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(found)
}

/// The names, each ending in NUL.
fn list(file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // Most files have none, and cost no buffer.
    // SAFETY: a null buffer of no length only asks for the size.
    let size = unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) };
    if Errno::result(size)? == 0 {
        return Ok(Vec::new());
    }
    let mut names = vec![0; MOST_BYTES];
    // SAFETY: the buffer is writable for the length given.
    let size =
        unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(Errno::result(size)? as usize);
    Ok(names)
}

fn get(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; MOST_BYTES];
    // SAFETY: the name is NUL-terminated and the buffer is writable for the
    // length given.
    let size = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(Errno::result(size)? as usize);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_set_is_read() {
        let file = tempfile::tempfile().unwrap();
        match crate::sys::fs::set_xattr(&file, c"user.isolazi", b"value") {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                assert!(all(file.as_fd()).unwrap().is_empty());
            }
            other => {
                other.unwrap();
                let wanted = (c"user.isolazi".to_owned(), b"value".to_vec());
                assert!(all(file.as_fd()).unwrap().contains(&wanted));
            }
        }
    }
}
