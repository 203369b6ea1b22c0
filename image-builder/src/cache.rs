//! What was built before, found again by what it was made of.
//!
//! ```text
//! <cache>/
//! ├── lock              held for a whole build
//! ├── log/              what noisy programs said last
//! └── <kind>/<key>/     one finished piece: the file itself and record.json
//!     <kind>/work.<pid> the piece being made; what a killed build left here
//!                       is removed by the next
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use isolazi_protocol::appliance::FileEntry;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::files::{self, FileError, failed};
use crate::key::Key;

const RECORD: &str = "record.json";

/// A finished piece.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Its digest and size when it was made.
    pub(crate) entry: FileEntry,
    /// What version of it this is.
    pub(crate) version: String,
}

/// What is kept of a folder that a piece was made in.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    /// The piece.
    pub(crate) file: &'a str,
    /// Files that stay beside it.
    pub(crate) beside: &'a [&'a str],
}

impl<'a> Names<'a> {
    /// Nothing but the piece.
    pub(crate) fn only(file: &'a str) -> Self {
        Self { file, beside: &[] }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    entry: FileEntry,
    version: String,
}

/// The cache, held by this process alone.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// Released when closed.
    _lock: File,
}

impl Cache {
    /// Takes the cache at `root`; `waiting` is called when another builder has
    /// it, before waiting for that one to end.
    pub(crate) fn open(root: &Path, waiting: impl FnOnce()) -> Result<Self, FileError> {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock(&root.join("lock"), waiting)?,
        })
    }

    /// Where the log `name` belongs.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    /// The piece with this key, if it was made before.
    pub(crate) fn find(&self, kind: &str, key: &Key, file: &str) -> Option<Piece> {
        let folder = self.root.join(kind).join(key.clone().hex());
        let record = fs::read(folder.join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let path = folder.join(file);
        let whole = fs::metadata(&path).is_ok_and(|found| found.len() == record.entry.size);
        whole.then_some(Piece {
            path,
            entry: record.entry,
            version: record.version,
        })
    }

    /// Has `make` make a piece. It is given an empty folder, leaves
    /// what `names` says there and returns its version; anything else it leaves
    /// is removed.
    pub(crate) fn make(
        &self,
        kind: &str,
        key: &Key,
        names: &Names<'_>,
        make: impl FnOnce(&Path) -> Result<String, BuildError>,
    ) -> Result<Piece, BuildError> {
        let work = self.work_folder(kind)?;
        let version = make(&work)?;
        let path = self.keep(&work, kind, key, names, version)?;
        files::remove_tree(&work)?;
        Ok(path)
    }

    /// An empty folder to work in. Its name is this process's own: a compiler
    /// that outlived a killed builder must not find its old folder again.
    fn work_folder(&self, kind: &str) -> Result<PathBuf, FileError> {
        const PREFIX: &str = "work.";
        let parent = self.root.join(kind);
        fs::create_dir_all(&parent).map_err(failed("create", &parent))?;
        let entries = fs::read_dir(&parent).map_err(failed("read", &parent))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // It may still be written to; then the next build removes it.
                let _ = files::remove_tree(&entry.path());
            }
        }
        let work = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&work).map_err(failed("create", &work))?;
        Ok(work)
    }

    fn keep(
        &self,
        work: &Path,
        kind: &str,
        key: &Key,
        names: &Names<'_>,
        version: String,
    ) -> Result<Piece, BuildError> {
        let record = Record {
            entry: files::entry_of_file(&work.join(names.file))?,
            version,
        };
        let folder = self.root.join(kind).join(key.clone().hex());
        files::remove_tree(&folder)?;
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        for name in names.beside.iter().chain([&names.file]) {
            let kept = folder.join(name);
            fs::rename(work.join(name), &kept).map_err(failed("create", &kept))?;
        }
        let path = folder.join(names.file);
        // The record comes last: without it there is no piece.
        let text = serde_json::to_vec(&record).map_err(io::Error::other);
        let text = text.map_err(failed("describe", &path))?;
        files::write_new(&folder.join(RECORD), 0o644, &text)?;
        Ok(Piece {
            path,
            entry: record.entry,
            version: record.version,
        })
    }
}

/// Locks the file at `path` for this process alone, until it is closed.
pub(crate) fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File, FileError> {
    let take = || {
        let file = File::options().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    };
    take().map_err(failed("lock", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_found_again_until_its_key_changes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), || ()).unwrap();
        let (one, two) = (Key::new("data", 1), Key::new("data", 2));
        assert!(cache.find("data", &one, "disk").is_none());
        let made = cache.make("data", &one, &Names::only("disk"), |work| {
            fs::write(work.join("disk"), "content").unwrap();
            fs::write(work.join("scratch"), "rest").unwrap();
            Ok("v1".to_owned())
        });
        let found = cache.find("data", &one, "disk").unwrap();
        assert_eq!(found.entry, made.unwrap().entry);
        assert_eq!(found.version, "v1");
        assert!(cache.find("data", &two, "disk").is_none());
        let left = fs::read_dir(dir.path().join("data")).unwrap();
        assert_eq!(left.count(), 1, "only the piece is left");
    }

    #[test]
    fn what_a_killed_build_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), || ()).unwrap();
        let left = dir.path().join("data/work.1/source");
        fs::create_dir_all(&left).unwrap();
        let names = Names::only("disk");
        let made = cache.make("data", &Key::new("data", 1), &names, |work| {
            fs::write(work.join("disk"), "content").unwrap();
            Ok(String::new())
        });
        assert!(made.is_ok());
        assert!(!left.exists());
    }

    #[test]
    fn a_truncated_piece_or_one_without_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), || ()).unwrap();
        let key = Key::new("data", 1);
        let make = |work: &Path| {
            fs::write(work.join("disk"), "content").unwrap();
            Ok(String::new())
        };
        let piece = cache
            .make("data", &key, &Names::only("disk"), make)
            .unwrap();
        fs::write(&piece.path, "con").unwrap();
        assert!(cache.find("data", &key, "disk").is_none());
        let piece = cache
            .make("data", &key, &Names::only("disk"), make)
            .unwrap();
        fs::remove_file(piece.path.with_file_name(RECORD)).unwrap();
        assert!(cache.find("data", &key, "disk").is_none());
    }

    #[test]
    fn a_second_builder_waits() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cache::open(dir.path(), || ()).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        let root = dir.path().to_owned();
        let second = std::thread::spawn(move || Cache::open(&root, || told.send(()).unwrap()));
        hears.recv().unwrap();
        drop(first);
        assert!(second.join().unwrap().is_ok());
    }
}
