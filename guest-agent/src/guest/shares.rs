//! Host folders in the guest: virtiofs devices, mounted when first used.
//!
//! The host plugs one device in per shared folder and names it by a tag; the
//! kernel needs a moment to find it, so mounting waits for the tag.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// Below here each share is a folder with the name of its tag.
const ROOT: &str = "/run/isolazi/shares";
/// How long the kernel may take to find a device that was plugged in.
const PATIENCE: Duration = Duration::from_secs(10);
/// virtiofs allows 36 bytes.
const MAX_TAG: usize = 36;

/// Why a shared folder is not available.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Not a tag that a host of ours would choose.
    #[error("'{0}' is not the name of a shared folder")]
    Tag(String),
    /// The device with this tag did not appear.
    #[error("the shared folder '{0}' did not appear in the guest")]
    Missing(String),
    /// The kernel refused.
    #[error("cannot mount the shared folder '{tag}'")]
    Mount {
        /// Which share.
        tag: String,
        /// The system call's error.
        #[source]
        source: io::Error,
    },
}

/// The folder in which the share `tag` is mounted, mounting it where it is not
/// yet. Blocks for up to ten seconds while its device is being plugged in.
///
/// # Errors
/// As [`ShareError`] lists them.
pub fn attach(tag: &str) -> Result<PathBuf, ShareError> {
    static MOUNTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    check(tag)?;
    let path = Path::new(ROOT).join(tag);
    // The lock is held while mounting: two containers that use a folder for
    // the first time must not mount it twice.
    let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = mounted.get_or_insert_with(already_mounted);
    if !mounted.contains(tag) {
        fs::create_dir_all(&path)
            .map_err(|source| mount_error(tag, source))
            .and_then(|()| mount_patiently(tag, &path))?;
        mounted.insert(tag.to_owned());
    }
    Ok(path)
}

/// Only letters, digits and dashes: a tag becomes a file name.
fn check(tag: &str) -> Result<(), ShareError> {
    let fits = (1..=MAX_TAG).contains(&tag.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if fits && tag.bytes().all(plain) {
        Ok(())
    } else {
        Err(ShareError::Tag(tag.chars().take(MAX_TAG).collect()))
    }
}

/// What a server before this one has mounted.
fn already_mounted() -> HashSet<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounted_tags(&table)
}

fn mounted_tags(table: &str) -> HashSet<String> {
    table
        .lines()
        .filter_map(|line| {
            line.split(' ')
                .nth(1)?
                .strip_prefix(ROOT)?
                .strip_prefix('/')
        })
        .map(str::to_owned)
        .collect()
}

fn mount_patiently(tag: &str, path: &Path) -> Result<(), ShareError> {
    let deadline = Instant::now() + PATIENCE;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    loop {
        match mount(Some(tag), path, Some("virtiofs"), flags, None::<&str>) {
            Ok(()) => return Ok(()),
            // virtiofs's answer to a tag that no device has.
            Err(Errno::EINVAL) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::EINVAL) => return Err(ShareError::Missing(tag.to_owned())),
            Err(errno) => return Err(mount_error(tag, errno.into())),
        }
    }
}

fn mount_error(tag: &str, source: io::Error) -> ShareError {
    ShareError::Mount {
        tag: tag.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_cannot_leave_its_folder() {
        assert!(check("share-0a1b").is_ok());
        for bad in ["", "..", "a/b", "a b", "tag\n", &"x".repeat(37)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mounted_shares_are_found_again() {
        let table = "tmpfs /run tmpfs rw 0 0\nabc /run/isolazi/shares/abc virtiofs rw 0 0\n";
        assert_eq!(mounted_tags(table), HashSet::from(["abc".to_owned()]));
    }
}
