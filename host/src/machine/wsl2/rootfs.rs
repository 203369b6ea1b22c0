//! The distribution's root file system: the appliance's agent, and what the
//! subsystem's own init looks for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use isolazi_protocol::appliance::INITRAMFS;
use isolazi_protocol::wsl::AGENT;
use tar::{EntryType, Header};

use crate::machine::MachineError;
use crate::machine::appliance::Appliance;

/// The agent in the boot image.
const INIT: &str = "init";

const FOLDERS: [&str; 11] = [
    "dev/",
    "etc/",
    "mnt/",
    "proc/",
    "root/",
    "run/",
    "sys/",
    "tmp/",
    "var/",
    "var/lib/",
    "var/lib/isolazi/",
];

/// `wsl.exe -u root` looks the user up.
const PASSWD: &str = "root:x:0:0:root:/root:/isolazi-agent\n";
const GROUP: &str = "root:x:0:\n";

/// The subsystem's settings for this distribution: drives are mounted, nothing else
/// is started, and what runs in containers cannot start programs of Windows
/// ("Advanced settings configuration in WSL").
const SETTINGS: &str = "[automount]\nenabled = true\nmountFsTab = false\n\
    [interop]\nenabled = false\nappendWindowsPath = false\n\
    [boot]\nsystemd = false\n[user]\ndefault = root\n";

/// The agent's executable, from the appliance's boot image.
pub(super) fn agent(appliance: &Appliance) -> Result<Vec<u8>, MachineError> {
    let path = appliance.verified(INITRAMFS)?;
    let image = fs::read(&path).map_err(MachineError::io("read", &path))?;
    let found = file_in(&image, INIT).map(<[u8]>::to_vec);
    found.ok_or_else(|| MachineError::BadAppliance {
        folder: appliance.folder().to_owned(),
        reason: format!("{INITRAMFS} has no agent"),
    })
}

/// The content of a file in a cpio archive in the form `newc`
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn file_in<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    const HEADER: usize = 110;
    const ALIGNMENT: usize = 4;
    let number = |header: &[u8], field: usize| {
        let digits = header.get(6 + 8 * field..14 + 8 * field)?;
        usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..at + HEADER)?;
        if !header.starts_with(b"070701") {
            return None;
        }
        let (size, name_size) = (number(header, 6)?, number(header, 11)?);
        let name_start = at + HEADER;
        let name = archive.get(name_start..name_start.checked_add(name_size)?)?;
        let start = (name_start + name_size).next_multiple_of(ALIGNMENT);
        let content = archive.get(start..start.checked_add(size)?)?;
        match name.strip_suffix(&[0])? {
            b"TRAILER!!!" => return None,
            name if name == wanted.as_bytes() => return Some(content),
            _ => at = (start + size).next_multiple_of(ALIGNMENT),
        }
    }
}

/// Writes a tar of it.
pub(super) fn write(agent: &[u8], target: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(File::create(target)?));
    for folder in FOLDERS {
        let mode = if folder == "tmp/" { 0o1777 } else { 0o755 };
        entry(&mut tar, EntryType::Directory, folder, mode, &[])?;
    }
    for (name, mode, content) in [
        (AGENT.trim_start_matches('/'), 0o755, agent),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
        ("etc/wsl.conf", 0o644, SETTINGS.as_bytes()),
    ] {
        entry(&mut tar, EntryType::Regular, name, mode, content)?;
    }
    tar.into_inner()?.flush()
}

fn entry(
    tar: &mut tar::Builder<impl Write>,
    kind: EntryType,
    name: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn member(name: &str, content: &str) -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        for field in [
            0,
            0,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ] {
            bytes.extend(format!("{field:08X}").bytes());
        }
        for part in [format!("{name}\0"), content.to_owned()] {
            bytes.extend(part.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_agent_is_found_in_the_boot_image() {
        let members = [
            member("dev", ""),
            member("init", "agent"),
            member("TRAILER!!!", ""),
        ];
        let image = members.concat();
        assert_eq!(file_in(&image, "init"), Some(&b"agent"[..]));
        assert_eq!(file_in(&image, "other"), None);
        for cut in 0..image.len() {
            // Whatever is missing, nothing else is found.
            let found = file_in(&image[..cut], "init");
            assert!(found.is_none_or(|it| it == b"agent"), "{cut}");
        }
        assert_eq!(file_in(&[b'F'; 400], "init"), None);
    }

    #[test]
    fn the_root_has_an_agent_and_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rootfs.tar");
        write(b"agent", &path).unwrap();
        let mut tar = tar::Archive::new(File::open(&path).unwrap());
        let mut found = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (name, mode) = (
                entry.path().unwrap().into_owned(),
                entry.header().mode().unwrap(),
            );
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            found.push((name.to_string_lossy().into_owned(), mode, content));
        }
        assert!(found.contains(&("isolazi-agent".to_owned(), 0o755, "agent".to_owned())));
        assert!(
            found
                .iter()
                .any(|it| it.0 == "etc/passwd" && it.2.starts_with("root:x:0:0:"))
        );
        assert!(found.iter().any(|it| it.0 == "tmp/" && it.1 == 0o1777));
    }
}
