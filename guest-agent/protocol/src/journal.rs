//! What has happened to containers, volumes and images, and a file that keeps
//! it: one line of JSON for each deed, appended by whoever does it.
//!
//! ```text
//!  writers ── shared lock ──► append one line ──► too long? ── lock alone ──► events.log.1
//!  readers ── no lock ──────► events.log.1, events.log, and what comes after
//! ```
//!
//! Many processes write at once: a shim, the agent, commands on the host. No
//! daemon collects for them, so what happened while nobody listened can be told
//! afterwards as well. The file is bounded, so it tells of the recent past only.
//! Both sides have one, which is why this lies here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file that is written.
pub const JOURNAL: &str = "events.log";
const OLD: &str = "events.log.1";
const LOCK: &str = "events.lock";
/// A file of this size is set aside, in the place of the one before it.
const LARGE: u64 = 1 << 20;
/// Longest line; what makes it longer (labels, in the end) is left out.
const LONGEST: usize = 16 << 10;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When: nanoseconds since the Unix epoch.
    pub time: u64,
    /// To what.
    pub kind: ObjectKind,
    /// Docker's word for it, such as `start` or `exec_create: ls`.
    pub action: String,
    /// The container's id, the volume's name, the image's name or id, the network's id.
    pub id: String,
    /// What else there is to know, by Docker's names.
    pub attributes: BTreeMap<String, String>,
}

/// What a [`Happening`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

impl ObjectKind {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// The journal in a folder.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// That of `folder`, which exists by the time something is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Appends what happened.
    pub fn write(&self, happening: &Happening) -> io::Result<()> {
        let line = line_of(happening)?;
        let lock = self.lock_file()?;
        // While somebody writes, nobody sets the file aside.
        lock.lock_shared()?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path())?;
        file.write_all(&line)?;
        let length = file.metadata()?.len();
        match length >= LARGE {
            true => self.set_aside(&lock),
            false => Ok(()),
        }
    }

    /// All that is known of, oldest first, and what comes after it.
    pub fn read(&self) -> io::Result<(Vec<Happening>, Follower)> {
        // So long nothing is set aside. Who may only read goes without.
        let lock = self.lock_file().ok().filter(|it| it.lock_shared().is_ok());
        let old = open(&self.folder.join(OLD))?;
        let file = open(&self.path())?;
        drop(lock);
        let mut before = Follower::of(self, old);
        let mut follower = Follower::of(self, file);
        let mut found = before.rest()?;
        found.extend(follower.rest()?);
        Ok((found, follower))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(JOURNAL)
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join(LOCK))
    }

    /// Where others are writing, the next one to write does it.
    fn set_aside(&self, lock: &File) -> io::Result<()> {
        lock.unlock()?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        // Another one may have done it in between.
        if fs::metadata(self.path())?.len() >= LARGE {
            fs::rename(self.path(), self.folder.join(OLD))?;
        }
        Ok(())
    }
}

/// What is the same of a file however much is written to it in between.
#[cfg(unix)]
fn identity(of: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (of.dev(), of.ino())
}

/// Elsewhere only containers of a machine write, and not while somebody looks here: a
/// file has as many bytes as itself, and another one that has as many, too, is found out
/// with its next line.
#[cfg(not(unix))]
fn identity(of: &fs::Metadata) -> u64 {
    of.len()
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn line_of(happening: &Happening) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(happening)?;
    if line.len() >= LONGEST {
        let mut shorter = happening.clone();
        shorter.action = excerpt(&shorter.action);
        shorter
            .attributes
            .retain(|key, value| key.len() + value.len() <= 256);
        while shorter.attributes.len() > 16 {
            shorter.attributes.pop_last();
        }
        line = serde_json::to_vec(&shorter)?;
    }
    line.push(b'\n');
    Ok(line)
}

fn excerpt(text: &str) -> String {
    text.chars().take(256).collect()
}

/// Reads what is written from now on.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    file: Option<File>,
    /// The start of a line that is not written to its end yet.
    pending: Vec<u8>,
}

impl Follower {
    fn of(journal: &Journal, file: Option<File>) -> Self {
        Self {
            journal: journal.clone(),
            file,
            pending: Vec::new(),
        }
    }

    /// What was written since the last time.
    pub fn more(&mut self) -> io::Result<Vec<Happening>> {
        let mut found = self.rest()?;
        if self.is_set_aside()? {
            // Nobody has written to it since it was.
            found.extend(self.rest()?);
            *self = Self::of(&self.journal, open(&self.journal.path())?);
            found.extend(self.rest()?);
        }
        Ok(found)
    }

    /// Whether the file is not the journal's any more.
    fn is_set_aside(&self) -> io::Result<bool> {
        let now = match fs::metadata(self.journal.path()) {
            Ok(found) => Some(identity(&found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ours = self.file.as_ref().map(File::metadata).transpose()?;
        Ok(now.is_some() && now != ours.as_ref().map(identity))
    }

    /// The lines of the file that were not read yet.
    fn rest(&mut self) -> io::Result<Vec<Happening>> {
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.pending)?;
        }
        let whole = self.pending.iter().rposition(|byte| *byte == b'\n');
        let lines: Vec<u8> = self.pending.drain(..whole.map_or(0, |at| at + 1)).collect();
        if self.pending.len() > LONGEST {
            // No writer of ours leaves such a thing.
            self.pending.clear();
        }
        let lines = lines.split(|byte| *byte == b'\n');
        // A line that a crash cut short says nothing, and keeps nothing from being said.
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(time: u64) -> Happening {
        Happening {
            time,
            kind: ObjectKind::Container,
            action: "start".to_owned(),
            id: "abc".to_owned(),
            attributes: BTreeMap::from([("image".to_owned(), "alpine".to_owned())]),
        }
    }

    fn times(happenings: &[Happening]) -> Vec<u64> {
        happenings.iter().map(|it| it.time).collect()
    }

    fn journal(name: &str) -> Journal {
        let folder = std::env::temp_dir().join(format!("isolazi-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Journal::new(folder)
    }

    #[test]
    fn what_is_written_is_read_and_followed() {
        let journal = journal("followed");
        let (found, mut follower) = journal.read().unwrap();
        assert!(found.is_empty());
        assert!(follower.more().unwrap().is_empty());
        journal.write(&happening(1)).unwrap();
        journal.write(&happening(2)).unwrap();
        assert_eq!(follower.more().unwrap(), [happening(1), happening(2)]);
        assert!(follower.more().unwrap().is_empty());
        assert_eq!(times(&journal.read().unwrap().0), [1, 2]);
        fs::remove_dir_all(&journal.folder).unwrap();
    }

    #[test]
    fn a_cut_line_costs_nothing_but_itself() {
        let journal = journal("cut");
        journal.write(&happening(1)).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(journal.path())
            .unwrap();
        file.write_all(b"{\"time\":").unwrap();
        let (found, mut follower) = journal.read().unwrap();
        assert_eq!(times(&found), [1]);
        file.write_all(b"\nnonsense\n").unwrap();
        journal.write(&happening(2)).unwrap();
        assert_eq!(times(&follower.more().unwrap()), [2]);
        fs::remove_dir_all(&journal.folder).unwrap();
    }

    #[test]
    fn a_large_file_is_set_aside_and_nothing_is_missed() {
        let journal = journal("large");
        let (_, mut follower) = journal.read().unwrap();
        let mut seen = Vec::new();
        let count = 2 * LARGE / line_of(&happening(10_000)).unwrap().len() as u64;
        for time in 0..count {
            journal.write(&happening(time)).unwrap();
            if time % 1000 == 0 {
                seen.extend(times(&follower.more().unwrap()));
            }
        }
        seen.extend(times(&follower.more().unwrap()));
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
        let found = times(&journal.read().unwrap().0);
        assert!(
            found.len() as u64 >= count / 2,
            "{} of {count}",
            found.len()
        );
        assert!(found.is_sorted() && found.last() == Some(&(count - 1)));
        let both = [JOURNAL, OLD].map(|name| {
            let length = fs::metadata(journal.folder.join(name)).unwrap().len();
            assert!(length <= LARGE + LONGEST as u64);
            length
        });
        assert!(both[1] >= LARGE);
        fs::remove_dir_all(&journal.folder).unwrap();
    }

    #[test]
    fn several_write_at_once() {
        let journal = journal("several");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for count in 0..200 {
                        journal.write(&happening(writer * 1000 + count)).unwrap();
                    }
                });
            }
        });
        let mut found = times(&journal.read().unwrap().0);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 800);
        fs::remove_dir_all(&journal.folder).unwrap();
    }

    #[test]
    fn a_long_line_is_shortened() {
        let mut long = happening(1);
        long.action = "x".repeat(LONGEST);
        long.attributes
            .insert("label".to_owned(), "y".repeat(LONGEST));
        let line = line_of(&long).unwrap();
        assert!(line.len() <= LONGEST);
        let kept: Happening = serde_json::from_slice(&line).unwrap();
        assert_eq!(kept.attributes, happening(1).attributes);
    }
}
