//! `--cidfile`: a file that is there for as long as nobody deletes it, and so
//! keeps a second container from being made by the same command.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use isolazi_protocol::ContainerId;

use super::OptionError;

/// A file that waits for the container's id. Without it, it vanishes.
#[derive(Debug)]
pub struct CidFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl CidFile {
    /// Makes the empty file, which must not exist.
    pub fn reserve(path: &Path) -> Result<Self, OptionError> {
        let shown = path.display().to_string();
        let file = File::options().write(true).create_new(true).open(path);
        match file {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
                written: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OptionError::CidFileExists(shown))
            }
            Err(source) => Err(OptionError::CidFile {
                path: shown,
                source,
            }),
        }
    }

    /// Writes the id: the container exists.
    pub fn write(mut self, id: &ContainerId) -> Result<(), OptionError> {
        let written = self.file.write_all(id.as_str().as_bytes());
        written.map_err(|source| OptionError::CidFile {
            path: self.path.display().to_string(),
            source,
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            // It is ours and empty; at worst it stays and says so next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_only_with_an_id_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cid");
        drop(CidFile::reserve(&path).unwrap());
        assert!(!path.exists());
        let id = ContainerId::from_random(&[7; 32]);
        CidFile::reserve(&path).unwrap().write(&id).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), id.as_str());
        let refused = CidFile::reserve(&path).unwrap_err();
        assert!(matches!(refused, OptionError::CidFileExists(_)));
        assert!(path.exists());
    }
}
