//! System calls that only a guest's PID 1 makes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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
