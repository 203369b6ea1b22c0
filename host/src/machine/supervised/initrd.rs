//! The initramfs of one boot: the appliance's, and behind it a second archive
//! with what only this boot may know. The kernel unpacks them one over the
//! other (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use isolazi_protocol::{BOOT_FILE, BootConfig};

const REGULAR_FILE_0600: u32 = 0o100_600;

/// Writes to `target` the appliance's archive and what the guest is told.
pub(super) fn write(target: &Path, appliance: &Path, config: &BootConfig) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let size = io::copy(&mut File::open(appliance)?, &mut file)?;
    file.write_all(&vec![0; padding(size as usize)])?;
    file.write_all(&archive(BOOT_FILE, config.to_string().as_bytes()))
}

/// A newc cpio archive of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = entry(name, REGULAR_FILE_0600, content);
    archive.extend(entry("TRAILER!!!", 0, b""));
    archive
}

fn entry(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let (links, name_size) = (1, name.len() as u32 + 1);
    let fields = [
        0,
        mode,
        0,
        0,
        links,
        0,
        content.len() as u32,
        0,
        0,
        0,
        0,
        name_size,
        0,
    ];
    let mut entry = b"070701".to_vec();
    for field in fields {
        entry.extend(format!("{field:08X}").bytes());
    }
    entry.extend(name.bytes());
    entry.push(0);
    entry.resize(entry.len() + padding(entry.len()), 0);
    entry.extend(content);
    entry.resize(entry.len() + padding(entry.len()), 0);
    entry
}

/// What is missing to a multiple of four.
fn padding(size: usize) -> usize {
    size.next_multiple_of(4) - size
}

#[cfg(test)]
mod tests {
    use isolazi_protocol::{GuestNetwork, Token};

    use super::*;

    #[test]
    fn the_second_archive_starts_on_a_boundary_and_ends_with_the_trailer() {
        let folder = tempfile::tempdir().unwrap();
        let (appliance, target) = (folder.path().join("a"), folder.path().join("t"));
        fs::write(&appliance, b"seven b").unwrap();
        for (token, rosetta) in [([7; 32], Some("rosetta".to_owned())), ([8; 32], None)] {
            let config = BootConfig {
                token: Token(token),
                hostname: "isolazi".to_owned(),
                network: GuestNetwork::Dhcp,
                rosetta,
            };
            write(&target, &appliance, &config).unwrap();
        }
        let written = fs::read(&target).unwrap();
        assert!(written[8..].starts_with(b"070701"));
        let text = String::from_utf8_lossy(&written);
        assert!(text.contains("isolazi-boot") && text.contains("TRAILER!!!"));
        assert!(
            text.contains("token 080808") && text.contains("dhcp") && !text.contains("rosetta")
        );
    }
}
