//! Extended attributes of what is open, if only as a place (`O_PATH`), which
//! may be a link or a device. Needs /proc.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Largest list of names and largest value that Linux has (xattr(7)).
const MOST_BYTES: usize = 64 << 10;

/// The names of the attributes; none where the file system has no attributes.
pub fn names(place: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let path = path_of(place)?;
    let mut list = vec![0_u8; MOST_BYTES];
    // SAFETY: the path is NUL-terminated and the buffer is writable for the
    // length given; both outlive the call.
    let length = unsafe { libc::listxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    let length = match Errno::result(length) {
        Err(Errno::ENOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let names = list[..length.unsigned_abs()].split_inclusive(|byte| *byte == 0);
    names
        .map(|name| {
            CStr::from_bytes_with_nul(name)
                .map(CStr::to_owned)
                .map_err(io::Error::other)
        })
        .collect()
}

/// The value of one attribute; `None` where it is gone.
pub fn value(place: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = path_of(place)?;
    let mut value = vec![0_u8; MOST_BYTES];
    // SAFETY: path and name are NUL-terminated and the buffer is writable for
    // the length given; all outlive the call.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match Errno::result(length) {
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(length) => {
            value.truncate(length.unsigned_abs());
            Ok(Some(value))
        }
    }
}

/// All attributes that the caller may see.
pub fn all(place: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names(place)? {
        if let Some(value) = value(place, &name)? {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// A path that leads to the place itself, and is not followed further.
fn path_of(place: BorrowedFd<'_>) -> io::Result<CString> {
    Ok(CString::new(format!(
        "/proc/self/fd/{}",
        place.as_raw_fd()
    ))?)
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
