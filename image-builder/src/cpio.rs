//! Writes cpio archives in the kernel's "newc" form
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Owners are 0:0 and times are 0, so that the same content gives the same
//! bytes.

/// Kind of a file, as `st_mode` has it (inode(7)).
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

const TRAILER: &str = "TRAILER!!!";
/// Headers and contents start at multiples of this.
const ALIGNMENT: usize = 4;

/// A device number.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// Why something does not fit into an archive.
#[derive(Debug, thiserror::Error)]
#[error("'{name}' is too large for the initramfs: {bytes} bytes, a file there is below 4 GiB")]
pub struct TooLarge {
    name: String,
    bytes: usize,
}

/// An archive being written. Names are relative, without a leading slash; a
/// folder comes before what is in it.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder with these permission bits.
    pub fn folder(&mut self, name: &str, mode: u32) {
        self.entry(name, S_IFDIR | mode, 0, None);
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), TooLarge> {
        let size = u32::try_from(content.len()).map_err(|_| TooLarge {
            name: name.to_owned(),
            bytes: content.len(),
        })?;
        self.entry(name, S_IFREG | mode, size, None);
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, mode: u32, device: Device) {
        self.entry(name, S_IFCHR | mode, 0, Some(device));
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, 0, None);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, size: u32, device: Option<Device>) {
        self.entries += 1;
        let device = device.unwrap_or(Device { major: 0, minor: 0 });
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        // Names are constants of this crate, far below 4 GiB.
        let name_size = name.len() as u32 + 1;
        let fields = [
            self.entries, // inode number: distinct, or entries would be hard links
            mode,
            0, // user
            0, // group
            links,
            0, // modification time
            size,
            0, // device the file lies on, major and minor
            0,
            device.major,
            device.minor,
            name_size,
            0, // checksum, unused by this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
    }

    fn align(&mut self) {
        let end = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        mode: u32,
        device: (u32, u32),
        name: String,
        content: Vec<u8>,
    }

    /// Reads an archive back, by the format's description.
    fn parse(mut rest: &[u8]) -> Vec<Entry> {
        let whole = rest.len();
        let mut entries = Vec::new();
        loop {
            assert_eq!((whole - rest.len()) % 4, 0);
            assert_eq!(&rest[..6], b"070701");
            let field = |index: usize| {
                let hex = &rest[6 + 8 * index..][..8];
                u32::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&rest[110..110 + name_size - 1]).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            entries.push(Entry {
                mode: field(1),
                device: (field(9), field(10)),
                name: name.to_owned(),
                content: rest[start..start + size].to_vec(),
            });
            rest = &rest[(start + size).next_multiple_of(4)..];
            if name == TRAILER {
                assert!(rest.is_empty());
                return entries;
            }
        }
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.folder("dev", 0o755);
        let console = Device { major: 5, minor: 1 };
        archive.character_device("dev/console", 0o600, console);
        archive.file("init", 0o755, b"hello").unwrap();
        archive.finish()
    }

    #[test]
    fn entries_read_back_as_written() {
        let entries = parse(&sample());
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "init", TRAILER]);
        assert_eq!(entries[0].mode, 0o040_755);
        assert_eq!(entries[1].mode, 0o020_600);
        assert_eq!(entries[1].device, (5, 1));
        assert_eq!(entries[2].mode, 0o100_755);
        assert_eq!(entries[2].content, b"hello");
    }

    #[test]
    fn same_content_gives_same_bytes() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn cpio_itself_lists_it() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let cpio = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = cpio else {
            eprintln!("skipped: no cpio here");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listed = cpio.wait_with_output().unwrap();
        assert!(listed.status.success());
        assert_eq!(listed.stdout, b"dev\ndev/console\ninit\n");
    }
}
