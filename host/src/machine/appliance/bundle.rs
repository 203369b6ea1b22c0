//! The appliance that a release's program brings along, and its installation:
//!
//! ```text
//!  program │ pieces │ index │ trailer
//!              │ each by a thread: zstd, holes for zeros, written back
//!              ▼
//!  .x86_64.partial/ ── manifest last, one rename ──► x86_64/
//! ```
//!
//! A piece counts when its digest in the index is right; what is unpacked is
//! checked by the manifest's digests whenever a machine boots from it. The lock
//! and the folder in the making are those of the image builder, so that the two do
//! not meet.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use isolazi_protocol::Digest;
use isolazi_protocol::appliance::bundle::{Index, MAX_INDEX_BYTES, Piece, TRAILER_BYTES, Trailer};
use isolazi_protocol::appliance::{FileEntry, MANIFEST, Manifest};
use sha2::{Digest as _, Sha256};

use super::Appliance;
use crate::files;
use crate::image::{Hashed, decompressed};
use crate::machine::MachineError;

/// A payload that was compiled in (`ISOLAZI_BUNDLE` when this program was built).
#[cfg(compiled_bundle)]
const COMPILED: Option<&[u8]> = Some(include_bytes!(env!("ISOLAZI_BUNDLE")));
#[cfg(not(compiled_bundle))]
const COMPILED: Option<&[u8]> = None;

/// An appliance, ready to be unpacked.
#[derive(Debug)]
pub struct Bundle {
    source: Source,
    index: Index,
    /// Where the payload begins in the source.
    start: u64,
}

/// What a payload is at the end of.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Memory(&'static [u8]),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Memory(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

trait Content: Read + Seek {}
impl<T: Read + Seek> Content for T {}

impl Source {
    /// This program: where Linux finds it even when its file has been replaced.
    fn own() -> io::Result<Self> {
        match cfg!(target_os = "linux") {
            true => Ok(Self::File("/proc/self/exe".into())),
            false => std::env::current_exe().map(Self::File),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Content>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path)?),
            Self::Memory(bytes) => Box::new(Cursor::new(*bytes)),
        })
    }
}

impl Bundle {
    /// What this program brings along, or `None` where it brings nothing.
    ///
    /// # Errors
    /// Where it brings something that is not whole.
    pub fn own() -> Result<Option<Self>, MachineError> {
        let found = match COMPILED {
            Some(bytes) => Self::find(Source::Memory(bytes)),
            None => Source::own().and_then(Self::find),
        };
        found.map_err(MachineError::BadBundle)
    }

    /// The payload at the end of `source`.
    fn find(source: Source) -> io::Result<Option<Self>> {
        let mut content = source.open()?;
        let length = content.seek(SeekFrom::End(0))?;
        let Some(at) = length.checked_sub(TRAILER_BYTES as u64) else {
            return Ok(None);
        };
        content.seek(SeekFrom::Start(at))?;
        let mut trailer = [0; TRAILER_BYTES];
        content.read_exact(&mut trailer)?;
        let Some(trailer) = Trailer::decode(&trailer) else {
            return Ok(None);
        };
        let start = trailer.payload().and_then(|it| length.checked_sub(it));
        let start = start.ok_or_else(|| invalid("it is cut short"))?;
        if trailer.index > MAX_INDEX_BYTES {
            return Err(invalid("its index is too long"));
        }
        content.seek(SeekFrom::Start(at - trailer.index))?;
        let mut text = vec![0; trailer.index as usize];
        content.read_exact(&mut text)?;
        if <[u8; 32]>::from(Sha256::digest(&text)) != trailer.index_digest {
            return Err(invalid("its index has been changed"));
        }
        let index: Index = serde_json::from_slice(&text)?;
        let outside = |piece: &Piece| {
            let end = piece.offset.checked_add(piece.packed.size);
            end.is_none_or(|end| end > trailer.pieces)
        };
        if index.files().any(|(_, _, piece)| outside(piece)) {
            return Err(invalid("a piece of it lies elsewhere"));
        }
        Ok(Some(Self {
            source,
            index,
            start,
        }))
    }

    /// What it unpacks to.
    pub fn manifest(&self) -> &Manifest {
        self.index.manifest()
    }

    /// Whether `folder` holds it, as far as a look at the files' lengths tells.
    pub fn is_installed(&self, folder: &Path) -> bool {
        let whole = |(name, entry): (&isolazi_protocol::appliance::FileName, &FileEntry)| {
            fs::metadata(folder.join(name.as_str())).is_ok_and(|it| it.len() == entry.size)
        };
        Appliance::open(folder).is_ok_and(|found| found.manifest == *self.manifest())
            && self.manifest().files.iter().all(whole)
    }

    /// Puts it into `folder`, unless `done` says, once nobody else is at it, that
    /// somebody else has. An older or damaged one there is replaced.
    pub fn install(&self, folder: &Path, done: impl FnOnce() -> bool) -> Result<(), MachineError> {
        let parent = folder.parent().unwrap_or(folder);
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        fs::create_dir_all(parent).map_err(MachineError::io("create", parent))?;
        let lock = parent.join(format!(".{name}.lock"));
        let _lock = File::create(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(MachineError::io("lock", &lock))?;
        if done() {
            return Ok(());
        }
        let partial = parent.join(format!(".{name}.partial"));
        files::remove_folder(&partial).map_err(MachineError::io("remove", &partial))?;
        fs::create_dir(&partial).map_err(MachineError::io("create", &partial))?;
        self.unpack(&partial).inspect_err(|_| {
            // Else the next one sweeps it away.
            let _ = files::remove_folder(&partial);
        })?;
        files::exchange_folder(&partial, folder).map_err(MachineError::io("replace", folder))?;
        files::sync_folder(parent).map_err(MachineError::io("write back", parent))
    }

    /// All files into an empty folder, the manifest last.
    fn unpack(&self, folder: &Path) -> Result<(), MachineError> {
        std::thread::scope(|scope| {
            let work: Vec<_> = self
                .index
                .files()
                .map(|(name, entry, piece)| {
                    let path = folder.join(name.as_str());
                    scope.spawn(move || self.unpack_piece(entry, piece, &path))
                })
                .collect();
            work.into_iter().try_for_each(|it| {
                it.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let path = folder.join(MANIFEST);
        let written = serde_json::to_vec_pretty(self.manifest())
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&path, text))
            .and_then(|()| File::open(&path)?.sync_all())
            .and_then(|()| files::sync_folder(folder));
        written.map_err(MachineError::io("write", &path))
    }

    fn unpack_piece(
        &self,
        entry: &FileEntry,
        piece: &Piece,
        path: &Path,
    ) -> Result<(), MachineError> {
        let mut file = File::create_new(path).map_err(MachineError::io("create", path))?;
        let mut source = self.source.open().map_err(MachineError::BadBundle)?;
        source
            .seek(SeekFrom::Start(self.start + piece.offset))
            .map_err(MachineError::BadBundle)?;
        let mut packed = Hashed::new(source.take(piece.packed.size));
        {
            // One byte more than there may be shows what is too long.
            let plain = decompressed(&mut packed).map_err(MachineError::BadBundle)?;
            let copied = files::copy_sparse(&mut plain.take(entry.size + 1), &mut file);
            let copied = copied.map_err(|error| match error.kind() {
                // Of what is read: a file that is written has no such errors.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    MachineError::BadBundle(error)
                }
                _ => MachineError::io("write", path)(error),
            })?;
            if copied != entry.size {
                return Err(MachineError::BadBundle(invalid(
                    "a piece of it has another length",
                )));
            }
        }
        io::copy(&mut packed, &mut io::sink()).map_err(MachineError::BadBundle)?;
        let digest: Digest = packed.digest();
        if digest != piece.packed.digest {
            return Err(MachineError::BadBundle(invalid(
                "a piece of it has been changed",
            )));
        }
        if piece.executable {
            files::make_executable(&file).map_err(MachineError::io("write", path))?;
        }
        file.sync_all().map_err(MachineError::io("write", path))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
