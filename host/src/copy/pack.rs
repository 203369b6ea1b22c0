//! A tar of a file or folder of this host's.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct PackError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Root's.
    Root,
    /// The same numbers as here.
    Same,
}

/// Writes a tar to `out`.
#[allow(missing_debug_implementations, reason = "tar's builder has none")]
pub struct Packer<W: Write> {
    archive: Builder<W>,
    owner: Owner,
    /// First names of files that have several.
    #[cfg(unix)]
    linked: std::collections::HashMap<(u64, u64), PathBuf>,
    bytes: u64,
}

impl<W: Write> Packer<W> {
    /// An archive whose entries belong to `owner`.
    pub fn new(out: W, owner: Owner) -> Self {
        Self {
            archive: Builder::new(out),
            owner,
            #[cfg(unix)]
            linked: std::collections::HashMap::new(),
            bytes: 0,
        }
    }

    /// Adds `path` and all below it under the name `name`; with `.` for a name
    /// it is a folder's content. Where `follow`, a link at `path` is followed.
    pub fn add(&mut self, path: &Path, name: &Path, follow: bool) -> Result<(), PackError> {
        let look = |path: &Path, follow| match follow {
            true => fs::metadata(path),
            false => fs::symlink_metadata(path),
        };
        let mut ahead = vec![(path.to_owned(), name.to_owned(), follow)];
        while let Some((path, name, follow)) = ahead.pop() {
            let failed = |source| PackError {
                path: path.clone(),
                source,
            };
            let metadata = look(&path, follow).map_err(failed)?;
            // The content of a folder does not change the folder it goes to.
            if name != Path::new(".") {
                self.entry(&path, &name, &metadata).map_err(failed)?;
            }
            if metadata.is_dir() {
                let inside = fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let mut inside = inside.map_err(failed)?;
                inside.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
                for entry in inside {
                    let name = match name == Path::new(".") {
                        true => PathBuf::from(entry.file_name()),
                        false => name.join(entry.file_name()),
                    };
                    ahead.push((entry.path(), name, false));
                }
            }
        }
        Ok(())
    }

    /// Ends the archive; returns the bytes of the files in it.
    pub fn finish(mut self) -> io::Result<u64> {
        self.archive.finish()?;
        self.archive.get_mut().flush()?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_size(0);
        if self.owner == Owner::Root {
            header.set_uid(0);
            header.set_gid(0);
        }
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            return self.archive.append_link(&mut header, name, target);
        }
        if metadata.is_dir() {
            return self
                .archive
                .append_data(&mut header, name.join(""), io::empty());
        }
        #[cfg(unix)]
        if let Some(first) = self.first_name(name, metadata) {
            header.set_entry_type(EntryType::Link);
            return self.archive.append_link(&mut header, name, first);
        }
        if metadata.is_file() {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            self.bytes += size;
            let content = Exactly { file, left: size };
            return self.archive.append_data(&mut header, name, content);
        }
        self.special(name, header, metadata)
    }

    /// A pipe or device. Sockets mean nothing without their program.
    #[cfg(unix)]
    fn special(&mut self, name: &Path, mut header: Header, metadata: &Metadata) -> io::Result<()> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let kind = metadata.file_type();
        let kind = match () {
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () => return Ok(()),
        };
        header.set_entry_type(kind);
        if kind != EntryType::Fifo {
            // Device numbers are of different widths on different systems.
            let device = metadata.rdev() as nix::libc::dev_t;
            header.set_device_major(nix::libc::major(device) as u32)?;
            header.set_device_minor(nix::libc::minor(device) as u32)?;
        }
        self.archive.append_data(&mut header, name, io::empty())
    }

    #[cfg(not(unix))]
    fn special(&mut self, _: &Path, _: Header, _: &Metadata) -> io::Result<()> {
        Ok(())
    }

    /// The name that this file was packed under before, if it was.
    #[cfg(unix)]
    fn first_name(&mut self, name: &Path, metadata: &Metadata) -> Option<PathBuf> {
        use std::collections::hash_map::Entry;
        use std::os::unix::fs::MetadataExt;
        if metadata.nlink() < 2 {
            return None;
        }
        match self.linked.entry((metadata.dev(), metadata.ino())) {
            Entry::Occupied(first) => Some(first.get().clone()),
            Entry::Vacant(vacant) => {
                vacant.insert(name.to_owned());
                None
            }
        }
    }
}

/// As many bytes as an entry's header says, whatever becomes of the file.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..wanted];
        let read = match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                buffer.len()
            }
            read => read,
        };
        self.left -= read as u64;
        Ok(read)
    }
}
