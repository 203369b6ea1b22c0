//! The agent's program for a guest that is not the appliance: the `/init` of the
//! appliance's initramfs, an archive in the "newc" form
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NAME: &[u8] = b"init";
const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
/// Where a header has the sizes of the file and of its name, eight digits each.
const FILE_SIZE: usize = 6 + 6 * 8;
const NAME_SIZE: usize = 6 + 11 * 8;

/// Puts the program at `target`, whole or not at all.
pub(super) fn install(initramfs: &Path, target: &Path) -> io::Result<()> {
    let archive = fs::read(initramfs)?;
    let program = find(&archive).ok_or_else(|| io::Error::other("it has no agent in it"))?;
    if fs::read(target).is_ok_and(|there| there == program) {
        return Ok(());
    }
    let fresh = target.with_extension("new");
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&fresh)?;
    file.write_all(program)?;
    file.sync_all()?;
    fs::rename(&fresh, target)
}

/// The content of the file [`NAME`].
fn find(archive: &[u8]) -> Option<&[u8]> {
    let mut rest = archive;
    loop {
        let header = rest.get(..HEADER).filter(|it| it.starts_with(MAGIC))?;
        let (file_size, name_size) = (number(header, FILE_SIZE)?, number(header, NAME_SIZE)?);
        let name = rest.get(HEADER..HEADER.checked_add(name_size)?)?;
        let start = HEADER.checked_add(name_size)?.next_multiple_of(4);
        let end = start.checked_add(file_size)?;
        let content = rest.get(start..end)?;
        // The name ends with a zero.
        if name.strip_suffix(b"\0") == Some(NAME) {
            return Some(content);
        }
        rest = rest.get(end.next_multiple_of(4)..)?;
    }
}

fn number(header: &[u8], at: usize) -> Option<usize> {
    let digits = std::str::from_utf8(header.get(at..at + 8)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut fields = [0; 13];
        (fields[6], fields[11]) = (content.len(), name.len() + 1);
        let mut entry = MAGIC.to_vec();
        for field in fields {
            entry.extend(format!("{field:08X}").bytes());
        }
        entry.extend(name.bytes());
        entry.push(0);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry.extend(content);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    #[test]
    fn the_program_is_taken_out_of_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("a"), folder.path().join("agent"));
        let whole = [
            entry("dev", b""),
            entry("init", b"the agent"),
            entry("TRAILER!!!", b""),
        ];
        fs::write(&archive, whole.concat()).unwrap();
        install(&archive, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"the agent");
        install(&archive, &target).unwrap();
    }

    #[test]
    fn what_is_cut_short_or_no_archive_is_an_error() {
        let whole = entry("init", b"the agent");
        assert_eq!(find(&whole).unwrap(), b"the agent");
        for end in [0, 50, HEADER + 3, whole.len() - 5] {
            assert_eq!(find(&whole[..end]), None, "{end}");
        }
        assert_eq!(find(&entry("TRAILER!!!", b"")), None);
    }
}
