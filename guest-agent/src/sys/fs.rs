//! File-system calls that name things by a directory descriptor and one name,
//! so that no path is ever looked up twice.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, fstatat};

/// How often a look-up is repeated that raced with a rename elsewhere on the
/// system (`EAGAIN` of openat2(2)).
const RESOLVE_ATTEMPTS: usize = 128;

/// Replaces the file at `path`, which is never half there. With `durable` it is on disk
/// when this returns.
pub fn replace(path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let draft = folder.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&draft)?;
    file.write_all(content)?;
    if durable {
        file.sync_data()?;
    }
    std::fs::rename(&draft, path)?;
    if durable {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Opens the folder `path` below `root`, which acts as `/` for absolute names,
/// `..` and symbolic links alike. Never leaves `root`, nor its file system, nor
/// follows a magic link (openat2(2), `RESOLVE_IN_ROOT`).
pub fn open_dir_in_root(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    open_in_root(root, path, flags, ResolveFlag::RESOLVE_NO_XDEV)
}

/// Opens `path` below `root`, as [`open_dir_in_root`] does, but also what is
/// mounted there; with `further` restrictions.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    further: ResolveFlag,
) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | further);
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    for _ in 0..RESOLVE_ATTEMPTS {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// Opens the folder `name` in `dir`; fails with `ENOTDIR` where it is anything
/// else, a symbolic link included.
pub fn open_dir_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens the folder at `path`, which may be a symbolic link to one.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Creates the file `name` in `dir` for writing; fails with `EEXIST` where
/// there is anything of that name. Its mode is 0600.
pub fn create_file_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(File::from(fd))
}

/// Status of `name` in `dir`, not followed.
pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<FileStat> {
    Ok(fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Sets the mode of `name` in `dir` without following it and without opening
/// it, which matters for fifos and devices. Needs /proc.
pub fn chmod_at(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    if fstat(&fd)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::ELOOP.into());
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let follow = FchmodatFlags::FollowSymlink;
    Ok(fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), mode, follow)?)
}

/// fsetxattr(2): sets an extended attribute of an open file or folder.
pub fn set_xattr(file: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and the value is valid for its length;
    // both outlive the call, which only reads them.
    let result = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// lsetxattr(2) on `name` in `dir`: for what cannot be opened. Needs /proc.
pub fn set_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    xattr: &CStr,
    value: &[u8],
) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = CString::new(path)?;
    // SAFETY: path and name are NUL-terminated and the value is valid for its
    // length; all outlive the call, which only reads them.
    let result = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            xattr.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Whether this is an overlayfs whiteout: a character device 0:0.
pub fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

/// Whether this is a folder.
pub fn is_dir(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Whether this is a symbolic link.
pub fn is_link(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFLNK
}

/// The names in a folder, without `.` and `..`. The descriptor's position is
/// not shared: it is opened anew.
pub fn list_dir(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let fresh = open_dir_at(dir, b".")?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(fresh)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// A name as the standard library's paths want it.
pub fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Opens the file `name` in `dir` to lock it, made where it is missing.
pub fn open_lock_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

/// Moves `name` from one folder to another of the same file system; fails with
/// `EEXIST` where there is anything of that name (renameat2(2)).
pub fn move_new(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: both names are the same NUL-terminated string, which outlives the
    // call; the rest are integers. musl has no function for it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            name.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// llistxattr(2) and lgetxattr(2), for tests to look at what was set.
#[cfg(test)]
pub(crate) fn xattrs_of(path: &CStr) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut list = vec![0u8; 64 << 10];
    // SAFETY: the path is NUL-terminated and the buffer is writable for the
    // length given.
    let length = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(Errno::result(length)? as usize);
    let names = list.split_inclusive(|byte| *byte == 0);
    names
        .map(|name| {
            let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
            let mut value = vec![0u8; 64 << 10];
            // SAFETY: path and name are NUL-terminated and the buffer is
            // writable for the length given.
            let length = unsafe {
                libc::lgetxattr(
                    path.as_ptr(),
                    name.as_ptr(),
                    value.as_mut_ptr().cast(),
                    value.len(),
                )
            };
            value.truncate(Errno::result(length)? as usize);
            Ok((name.to_owned(), value))
        })
        .collect()
}
