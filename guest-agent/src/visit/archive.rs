//! Writes tars: POSIX headers, with PAX records (pax(1)) for what does not fit
//! into them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;
use tar::{EntryType, Header};

use super::VisitError;
use super::entry::Entry;
use crate::launch::plan::UsernsPlan;
use crate::sys::idmap::IdMap;
use crate::sys::{fs, xattr};

const BLOCK: usize = 512;
/// Read at once of a file.
const PIECE: usize = 128 << 10;
/// Names in an entry's own header.
const NAME_FIELD: usize = 100;
/// Files with several names that are remembered; of further ones each name is
/// packed with the content.
const MOST_LINKED: usize = 1 << 20;
/// Attributes of one entry; our own reader takes as much.
const MOST_XATTR_BYTES: usize = 512 << 10;

/// Whom the kernel shows in a user namespace for those who are not in it.
const NOBODY: u32 = 65534;

/// A tar under way.
#[derive(Debug)]
pub struct Packer<W> {
    out: W,
    /// First names of files that have several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Whose ids are those that are seen.
    ids: Option<(IdMap, IdMap)>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    /// A tar that is written to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            linked: HashMap::new(),
            ids: None,
            buffer: vec![0; PIECE],
        }
    }

    /// Says of owners who they are in the container with these ids.
    pub(super) fn of_container(mut self, ids: Option<&UsernsPlan>) -> Self {
        self.ids = ids.map(UsernsPlan::maps);
        self
    }

    fn owner(&self, stat: &FileStat) -> (u32, u32) {
        let Some((users, groups)) = &self.ids else {
            return (stat.st_uid, stat.st_gid);
        };
        let id = |map: &IdMap, id| map.inside_of(id).unwrap_or(NOBODY);
        (id(users, stat.st_uid), id(groups, stat.st_gid))
    }

    /// Adds one thing under the name `name`. Sockets, which mean nothing
    /// without their program, are left out.
    pub(super) fn add(&mut self, name: &[u8], entry: &Entry) -> Result<(), VisitError> {
        let stat = &entry.stat;
        let mut records = Records::default();
        let mut header = Header::new_ustar();
        header.set_mode(stat.st_mode & 0o7777);
        let (uid, gid) = self.owner(stat);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(0);
        time(&mut header, &mut records, stat.st_mtime, stat.st_mtime_nsec);
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => EntryType::Regular,
            libc::S_IFDIR => EntryType::Directory,
            libc::S_IFLNK => EntryType::Symlink,
            libc::S_IFCHR => EntryType::Char,
            libc::S_IFBLK => EntryType::Block,
            libc::S_IFIFO => EntryType::Fifo,
            _ => return Ok(()),
        };
        if let Some(first) = self.first_name(name, entry) {
            header.set_entry_type(EntryType::Link);
            link_to(&mut header, &mut records, &first);
            return self.head(name, header, records);
        }
        header.set_entry_type(kind);
        self.attributes(entry, &mut records)?;
        match kind {
            EntryType::Regular => return self.file(name, entry, header, records),
            EntryType::Symlink => {
                let failed = VisitError::io("read", &entry.path);
                let target = readlinkat(entry, "").map_err(|errno| failed(errno.into()))?;
                let target = std::os::unix::ffi::OsStringExt::into_vec(target);
                link_to(&mut header, &mut records, &target);
            }
            EntryType::Char | EntryType::Block => {
                // Both fit twelve bits and twenty, the fields twenty-one.
                let (major, minor) = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
                let _ = header.set_device_major(major);
                let _ = header.set_device_minor(minor);
            }
            _ => {}
        }
        self.head(name, header, records)
    }

    /// Adds an empty file that is not there, such as a whiteout.
    pub(super) fn add_mark(&mut self, name: &[u8]) -> Result<(), VisitError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_size(0);
        self.head(name, header, Records::default())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<(), VisitError> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(VisitError::Unread)
    }

    /// The name that this file was packed under before, if it was.
    fn first_name(&mut self, name: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        let stat = &entry.stat;
        if stat.st_nlink < 2 || entry.is_folder() {
            return None;
        }
        let key = (stat.st_dev, stat.st_ino);
        let first = self.linked.get(&key).cloned();
        if first.is_none() && self.linked.len() < MOST_LINKED {
            self.linked.insert(key, name.to_vec());
        }
        first
    }

    fn attributes(&self, entry: &Entry, records: &mut Records) -> Result<(), VisitError> {
        let failed = || VisitError::io("read the attributes of", &entry.path);
        let mut left = MOST_XATTR_BYTES;
        for name in xattr::names(entry.as_fd()).map_err(failed())? {
            if !is_portable(name.to_bytes()) {
                continue;
            }
            let value = xattr::value(entry.as_fd(), &name).map_err(failed())?;
            let Some(value) = value.filter(|value| value.len() <= left) else {
                continue;
            };
            left -= value.len();
            let key = [b"SCHILY.xattr.", name.to_bytes()].concat();
            records.add(&key, &value);
        }
        Ok(())
    }

    fn file(
        &mut self,
        name: &[u8],
        entry: &Entry,
        mut header: Header,
        records: Records,
    ) -> Result<(), VisitError> {
        let failed = || VisitError::io("read", &entry.path);
        let content = entry.content().map_err(failed())?;
        // What was written since the look at it counts.
        let size = content.metadata().map_err(failed())?.len();
        header.set_size(size);
        self.head(name, header, records)?;
        let mut content = content.take(size);
        let mut left = size;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = match content.read(&mut buffer[..wanted]).map_err(failed())? {
                // It has become shorter; its header stands.
                0 => {
                    buffer[..wanted].fill(0);
                    wanted
                }
                read => read,
            };
            self.write(&buffer[..read])?;
            left -= read as u64;
        }
        self.buffer = buffer;
        self.pad(size)
    }

    /// Writes an entry's header, and before it what did not fit in there.
    fn head(
        &mut self,
        name: &[u8],
        mut header: Header,
        mut records: Records,
    ) -> Result<(), VisitError> {
        let mut shown = name.to_vec();
        if header.entry_type().is_dir() {
            shown.push(b'/');
        }
        if shown.len() > NAME_FIELD || !shown.is_ascii() {
            records.add(b"path", &shown);
        }
        put_bytes(&mut header.as_old_mut().name, &shown);
        if !records.0.is_empty() {
            let mut before = Header::new_ustar();
            before.set_entry_type(EntryType::XHeader);
            before.set_mode(0o644);
            before.set_size(records.0.len() as u64);
            put_bytes(&mut before.as_old_mut().name, b"PaxHeaders/entry");
            before.set_cksum();
            self.write(before.as_bytes())?;
            self.write(&records.0)?;
            self.pad(records.0.len() as u64)?;
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), VisitError> {
        let over = (size % BLOCK as u64) as usize;
        match over {
            0 => Ok(()),
            over => self.write(&[0; BLOCK][over..]),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), VisitError> {
        self.out.write_all(bytes).map_err(VisitError::Unread)
    }
}

/// Attributes that mean the same elsewhere: not overlayfs's, nor those of a
/// security module of this machine.
fn is_portable(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"user.overlay.");
    (name.starts_with(b"user.") && !overlay) || name == b"security.capability"
}

fn time(header: &mut Header, records: &mut Records, seconds: i64, nanos: i64) {
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    if nanos == 0 && seconds >= 0 {
        return;
    }
    // Before the epoch the fraction still counts forwards, the text does not.
    let text = match (seconds < 0, nanos) {
        (true, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        (_, 0) => seconds.to_string(),
        _ => format!("{seconds}.{nanos:09}"),
    };
    records.add(b"mtime", text.as_bytes());
}

fn link_to(header: &mut Header, records: &mut Records, target: &[u8]) {
    if target.len() > NAME_FIELD || !target.is_ascii() {
        records.add(b"linkpath", target);
    }
    put_bytes(&mut header.as_old_mut().linkname, target);
}

fn put_bytes(field: &mut [u8; NAME_FIELD], bytes: &[u8]) {
    let fitting = &bytes[..bytes.len().min(NAME_FIELD)];
    field.fill(0);
    field[..fitting.len()].copy_from_slice(fitting);
}

/// PAX records: `LENGTH KEY=VALUE\n`, where the length counts itself.
#[derive(Debug, Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let length = length.to_string();
        let record = [length.as_bytes(), b" ", key, b"=", value, b"\n"];
        self.0.extend(record.concat());
    }
}

/// Whether two looks saw the same thing with the same attributes.
pub(super) fn same_attributes(one: &Entry, other: &Entry) -> bool {
    let (a, b) = (&one.stat, &other.stat);
    debug_assert!(fs::is_dir(a) && fs::is_dir(b), "only asked of folders");
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

/// Passes bytes on in pieces, for writers that make many small calls.
#[derive(Debug)]
pub struct Pieces<F> {
    buffer: Vec<u8>,
    size: usize,
    pass_on: F,
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Pieces<F> {
    /// Calls `pass_on` with `size` bytes at a time, and with the rest.
    pub fn new(size: usize, pass_on: F) -> Self {
        Self {
            buffer: Vec::with_capacity(size),
            size,
            pass_on,
        }
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == self.size {
            self.flush()?;
        }
        let count = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.size));
        (self.pass_on)(full)
    }
}
