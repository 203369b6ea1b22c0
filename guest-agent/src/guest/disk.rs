//! The data disk: an ext4 file system that fills its block device.
//!
//! The host makes the disk a sparse copy of a small template and may make it
//! larger later; the file system follows at the next boot, while mounted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::DATA_ROOT;
use super::error::GuestError;
use crate::sys::guest::resize_ext4;

/// The first virtio-blk device, the only disk a machine has.
const DEVICE: &str = "/dev/vda";
/// How long the kernel may take to announce it.
const PATIENCE: Duration = Duration::from_secs(2);
/// An I/O error stops writing rather than spreading damage; freed blocks are
/// given back to the host's sparse file.
const OPTIONS: &str = "errors=remount-ro,discard";

/// Mounts the disk at [`DATA_ROOT`], grown to its full size.
pub(super) fn mount_data() -> Result<(), GuestError> {
    let mut device = open_device()?;
    let size = Ext4Size::read(&mut device)?;
    let device_bytes = device
        .seek(SeekFrom::End(0))
        .map_err(GuestError::setup("measure", DEVICE))?;
    mount(
        Some(DEVICE),
        DATA_ROOT,
        Some("ext4"),
        MsFlags::MS_NOATIME | MsFlags::MS_NOSUID,
        Some(OPTIONS),
    )
    .map_err(|errno| GuestError::Mount {
        device: DEVICE,
        source: errno.into(),
    })?;
    if let Some(blocks) = size.blocks_to_fill(device_bytes) {
        grow(blocks);
    }
    Ok(())
}

/// Takes the disk out of use; what cannot be unmounted becomes read-only, so
/// that all of it is written either way.
pub(super) fn unmount_data() {
    if umount2(DATA_ROOT, MntFlags::empty()).is_ok() {
        return;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if let Err(error) = mount(
        None::<&str>,
        DATA_ROOT,
        None::<&str>,
        read_only,
        None::<&str>,
    ) {
        eprintln!("isolazi: cannot unmount {DATA_ROOT}: {error}");
    }
}

fn open_device() -> Result<File, GuestError> {
    let deadline = Instant::now() + PATIENCE;
    while !Path::new(DEVICE).exists() {
        if Instant::now() > deadline {
            return Err(GuestError::NoDisk(DEVICE));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    File::open(DEVICE).map_err(GuestError::setup("open", DEVICE))
}

/// A disk that stays small still works, so failing here is no reason not to boot.
fn grow(blocks: u64) {
    let grown = File::open(DATA_ROOT).and_then(|root| resize_ext4(&root, blocks));
    if let Err(error) = grown {
        eprintln!("isolazi: cannot grow {DATA_ROOT} to {blocks} blocks: {error}");
    }
}

/// The size in an ext4 superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ext4Size {
    blocks: u64,
    block_bytes: u64,
}

impl Ext4Size {
    const SUPERBLOCK_OFFSET: u64 = 1024;
    const SUPERBLOCK_BYTES: usize = 1024;
    /// A file system is grown only by this much or more: the last, incomplete
    /// block group of a device is not worth a resize at every boot.
    const WORTHWHILE_BYTES: u64 = 128 << 20;

    fn read(device: &mut File) -> Result<Self, GuestError> {
        let mut block = [0; Self::SUPERBLOCK_BYTES];
        device
            .seek(SeekFrom::Start(Self::SUPERBLOCK_OFFSET))
            .and_then(|_| device.read_exact(&mut block))
            .map_err(GuestError::setup("read", DEVICE))?;
        Self::parse(&block).ok_or(GuestError::NotExt4(DEVICE))
    }

    /// `s_blocks_count_lo`, `s_log_block_size`, `s_magic` and
    /// `s_blocks_count_hi` (with the 64bit feature) of the superblock.
    fn parse(block: &[u8; Self::SUPERBLOCK_BYTES]) -> Option<Self> {
        const FEATURE_64BIT: u32 = 0x80;
        let word = |offset: usize| {
            let bytes = block.get(offset..offset + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        if block.get(0x38..0x3a)? != [0x53, 0xef] {
            return None;
        }
        let shift = word(0x18)?;
        if shift > 6 {
            return None;
        }
        let high = match word(0x60)? & FEATURE_64BIT {
            0 => 0,
            _ => word(0x150)?,
        };
        Some(Self {
            blocks: u64::from(high) << 32 | u64::from(word(0x4)?),
            block_bytes: 1024 << shift,
        })
    }

    /// How many blocks fill a device of this size, where growing is worth it.
    fn blocks_to_fill(self, device_bytes: u64) -> Option<u64> {
        let missing = device_bytes.saturating_sub(self.blocks.checked_mul(self.block_bytes)?);
        (missing >= Self::WORTHWHILE_BYTES).then_some(device_bytes / self.block_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(blocks: u64, shift: u32) -> [u8; Ext4Size::SUPERBLOCK_BYTES] {
        let mut block = [0; Ext4Size::SUPERBLOCK_BYTES];
        block[0x4..0x8].copy_from_slice(&(blocks as u32).to_le_bytes());
        block[0x18..0x1c].copy_from_slice(&shift.to_le_bytes());
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[0x60] = 0x80;
        block[0x150..0x154].copy_from_slice(&((blocks >> 32) as u32).to_le_bytes());
        block
    }

    #[test]
    fn a_grown_device_is_filled() {
        let size = Ext4Size::parse(&superblock(1 << 16, 2)).unwrap();
        assert_eq!(size.block_bytes, 4096);
        assert_eq!(size.blocks_to_fill(64 << 30), Some(16 << 20));
    }

    #[test]
    fn a_full_or_smaller_device_is_left_alone() {
        let size = Ext4Size::parse(&superblock(16 << 20, 2)).unwrap();
        assert_eq!(size.blocks_to_fill(64 << 30), None);
        assert_eq!(size.blocks_to_fill((64 << 30) + 4096), None);
        assert_eq!(size.blocks_to_fill(1 << 30), None);
    }

    #[test]
    fn sizes_above_four_billion_blocks_are_read() {
        let size = Ext4Size::parse(&superblock(5 << 32, 2)).unwrap();
        assert_eq!(size.blocks, 5 << 32);
    }

    #[test]
    fn what_is_not_ext4_is_refused() {
        assert_eq!(Ext4Size::parse(&[0; 1024]), None);
        assert_eq!(Ext4Size::parse(&superblock(1, 40)), None);
    }
}
