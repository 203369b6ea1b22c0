//! The entries of an archive, hashed and set aside, by name and by digest.

use std::collections::HashMap;
use std::io::Read;

use isolazi_protocol::Digest;
use tar::EntryType;

use super::super::store::ImageStore;
use super::super::text::{escape, short};
use super::reader::{Entries, Entry};
use super::stage::Staged;
use super::{ArchiveError, decompress};

const MAX_ENTRIES: usize = 10_000;
const MAX_NAME: usize = 1024;
/// Links to links.
const MAX_DEPTH: usize = 4;

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: Vec<Staged>,
    by_name: HashMap<String, usize>,
    by_digest: HashMap<Digest, usize>,
    /// Links to other entries, by name.
    links: HashMap<String, String>,
}

impl Contents {
    /// Reads all of an archive.
    pub(super) fn read(store: &ImageStore, from: impl Read) -> Result<Self, ArchiveError> {
        let plain = decompress::decompressed(from).map_err(ArchiveError::reading)?;
        let mut entries = Entries::new(plain);
        let mut contents = Self::default();
        let mut count = 0;
        while let Some(entry) = entries.next().map_err(ArchiveError::reading)? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries(MAX_ENTRIES));
            }
            contents.add(store, &entry, &mut entries)?;
        }
        Ok(contents)
    }

    fn add(
        &mut self,
        store: &ImageStore,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        let name = clean(&entry.name)?;
        match entry.kind {
            EntryType::Directory => Ok(()),
            EntryType::Regular | EntryType::Continuous => {
                let digest = name
                    .strip_prefix("blobs/sha256/")
                    .map(|hex| format!("sha256:{hex}").parse::<Digest>())
                    .transpose()
                    .map_err(|_| ArchiveError::Name(escape(&name)))?;
                let announced = digest.as_ref().map(|digest| (digest, entry.size));
                self.keep(name, Staged::read(store, content, announced)?)
            }
            EntryType::Link => {
                let target = clean(&entry.target)?;
                self.link(name, target)
            }
            EntryType::Symlink => {
                let target = beside(&name, &entry.target)?;
                self.link(name, target)
            }
            _ => Err(ArchiveError::Name(escape(&name))),
        }
    }

    fn keep(&mut self, name: String, file: Staged) -> Result<(), ArchiveError> {
        let index = self.files.len();
        if self.by_name.contains_key(&name) || self.links.contains_key(&name) {
            return Err(ArchiveError::Twice(escape(&name)));
        }
        self.by_digest.entry(file.digest.clone()).or_insert(index);
        self.by_name.insert(name, index);
        self.files.push(file);
        Ok(())
    }

    fn link(&mut self, name: String, target: String) -> Result<(), ArchiveError> {
        if self.by_name.contains_key(&name) || self.links.contains_key(&name) {
            return Err(ArchiveError::Twice(escape(&name)));
        }
        self.links.insert(name, target);
        Ok(())
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    /// The file of this name, or that links of this name lead to.
    pub(super) fn file(&self, name: &str) -> Result<&Staged, ArchiveError> {
        let mut name = clean(name.as_bytes())?;
        for _ in 0..MAX_DEPTH {
            if let Some(index) = self.by_name.get(&name) {
                return Ok(&self.files[*index]);
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(ArchiveError::Missing(format!("'{}'", escape(&name))))
    }

    /// The file of this digest, whatever it is called.
    pub(super) fn blob(&self, kind: &str, digest: &Digest) -> Result<&Staged, ArchiveError> {
        let index = self.by_digest.get(digest);
        let missing = || ArchiveError::Missing(format!("{kind} {}", short(digest)));
        Ok(&self.files[*index.ok_or_else(missing)?])
    }

    /// Makes the file of this digest a blob of the store, where there is one.
    pub(super) fn commit(&mut self, digest: &Digest) -> Result<(), ArchiveError> {
        match self.by_digest.get(digest) {
            Some(index) => Ok(self.files[*index].commit()?),
            None => Ok(()),
        }
    }
}

/// An entry's name, which must be a plain path within the archive.
fn clean(name: &[u8]) -> Result<String, ArchiveError> {
    let bad = || ArchiveError::Name(escape(&String::from_utf8_lossy(name)));
    let text = std::str::from_utf8(name).map_err(|_| bad())?;
    if text.len() > MAX_NAME || text.starts_with('/') || text.contains(char::is_control) {
        return Err(bad());
    }
    let mut parts = Vec::new();
    for part in text.trim_end_matches('/').split('/') {
        match part {
            ".." => return Err(bad()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The target of a symbolic link at `name`, as a path within the archive.
fn beside(name: &str, target: &[u8]) -> Result<String, ArchiveError> {
    let bad = || ArchiveError::Name(escape(&String::from_utf8_lossy(target)));
    let text = std::str::from_utf8(target).map_err(|_| bad())?;
    if text.len() > MAX_NAME || text.starts_with('/') || text.contains(char::is_control) {
        return Err(bad());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in text.split('/') {
        match part {
            ".." => drop(parts.pop().ok_or_else(bad)?),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        assert_eq!(clean(b"./a/b.json").unwrap(), "a/b.json");
        assert_eq!(clean(b"a/").unwrap(), "a");
        for bad in [
            "../a",
            "a/../../b",
            "/etc/passwd",
            "a\nb",
            "a\0b",
            &"x".repeat(2000),
        ] {
            assert!(clean(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(clean(b"\xff").is_err());
    }

    #[test]
    fn links_stay_within_the_archive() {
        assert_eq!(
            beside("x/layer.tar", b"../y/layer.tar").unwrap(),
            "y/layer.tar"
        );
        for bad in ["../../y", "/y", "a\0"] {
            assert!(beside("x/layer.tar", bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
