//! What of the host the user has shared with the machine.
//!
//! A container that starts again mounts what its record says, and a guest keeps those
//! records. One that has been taken over could write anything there, and would be given
//! it at its next boot: so only what the user has named before is shared again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::machine::MachineError;

/// Files and folders by their canonical paths, each with whether it may be written to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consent(BTreeMap<PathBuf, bool>);

impl Consent {
    /// What is kept in `file`; nothing where there is none.
    pub(super) fn read(file: &Path) -> Result<Self, MachineError> {
        match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| MachineError::io("understand", file)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(MachineError::io("read", file)(error)),
        }
    }

    /// Keeps in `file` that the user has shared `path`.
    pub(super) fn give(file: &Path, path: &Path, read_only: bool) -> Result<(), MachineError> {
        let mut consent = Self::read(file)?;
        if consent.covers(path, read_only) {
            return Ok(());
        }
        let writable = consent.0.entry(path.to_owned()).or_default();
        *writable |= !read_only;
        serde_json::to_vec(&consent)
            .map_err(io::Error::from)
            .and_then(|text| files::replace(file, &text))
            .map_err(MachineError::io("write", file))
    }

    /// Whether the user has shared `path`, and for writing unless it is `read_only`.
    fn covers(&self, path: &Path, read_only: bool) -> bool {
        let writable = self.0.get(path);
        writable.is_some_and(|writable| *writable || read_only)
    }

    /// Refuses what the user has not shared. What has become a link since, which a guest
    /// can have made in a folder that it may write to, leads elsewhere.
    pub(super) fn check(&self, path: &Path, read_only: bool) -> Result<(), MachineError> {
        let is_itself = fs::canonicalize(path).is_ok_and(|canonical| canonical == path);
        if is_itself && self.covers(path, read_only) {
            return Ok(());
        }
        let how = if read_only { "" } else { " for writing" };
        Err(MachineError::Failed(format!(
            "{} has not been shared with the machine{how} by you, only its own records say so; make the container anew with -v",
            path.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_there_and_for_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let file = root.join("consent.json");
        let (read, write) = (root.join("read"), root.join("write"));
        for path in [&read, &write] {
            fs::create_dir(path).unwrap();
        }
        Consent::give(&file, &read, true).unwrap();
        Consent::give(&file, &write, true).unwrap();
        Consent::give(&file, &write, false).unwrap();
        // What was given once stays.
        Consent::give(&file, &write, true).unwrap();
        let consent = Consent::read(&file).unwrap();
        consent.check(&read, true).unwrap();
        consent.check(&write, true).unwrap();
        consent.check(&write, false).unwrap();
        let refused = consent.check(&read, false).unwrap_err().to_string();
        assert!(refused.contains("for writing"), "{refused}");
        for other in [root.clone(), write.join(".."), write.join("below")] {
            consent.check(&other, true).unwrap_err();
        }
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (file, shared) = (root.join("consent.json"), root.join("shared"));
        fs::create_dir(&shared).unwrap();
        Consent::give(&file, &shared, false).unwrap();
        fs::remove_dir(&shared).unwrap();
        std::os::unix::fs::symlink("/", &shared).unwrap();
        let consent = Consent::read(&file).unwrap();
        consent.check(&shared, true).unwrap_err();
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consent.json");
        assert_eq!(Consent::read(&file).unwrap(), Consent::default());
        fs::write(&file, "{").unwrap();
        let error = anyhow::Error::from(Consent::read(&file).unwrap_err());
        assert!(format!("{error:#}").contains("consent.json"));
    }
}
