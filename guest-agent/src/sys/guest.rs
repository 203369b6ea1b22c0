//! System calls that only a guest's PID 1 makes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

mod raw {
    // linux/ext4.h: EXT4_IOC_RESIZE_FS
    nix::ioctl_write_ptr!(ext4_resize_fs, b'f', 16, u64);
}

/// Grows the mounted ext4 file system that `root` lies on to `blocks` blocks
/// of its own block size.
///
/// # Errors
/// `EPERM` without CAP_SYS_RESOURCE; `EINVAL` where the file system cannot
/// grow that far.
pub fn resize_ext4(root: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the request reads one u64 through the pointer, and `blocks`
    // outlives the call.
    unsafe { raw::ext4_resize_fs(root.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// Sets the interface `lo` of this network namespace up.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN.
pub fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: no pointers are involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `socket` was just opened and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `ifreq` is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and flags of one `ifreq`, both set
    // above; the pointer is valid for the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
