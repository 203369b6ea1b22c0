//! Folders that a machine shares from its start to its end, for hypervisors that cannot
//! plug another one in. They are in the settings: `shared-folders` of `[machine]`.

use std::path::{Path, PathBuf};

use futures_util::future::{FutureExt, LocalBoxFuture};
use isolazi_protocol::BindSource;

use super::hypervisor::Shares;
use super::record::ShareRecord;
use crate::machine::MachineError;

/// The folders to share: those of the settings in `file`, else the user's own.
pub(crate) fn shared_folders(
    settings: Option<&[PathBuf]>,
    file: &Path,
) -> Result<Vec<PathBuf>, MachineError> {
    let home = dirs::home_dir();
    let named = match settings {
        Some(folders) => folders.to_vec(),
        None => home.iter().cloned().collect(),
    };
    let mut folders = Vec::new();
    for folder in named {
        let folder = match (folder.strip_prefix("~"), &home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => folder,
        };
        let wrong = |reason: &str| {
            MachineError::Failed(format!(
                "{}: 'shared-folders' has {}, which {reason}",
                file.display(),
                folder.display()
            ))
        };
        if !folder.is_absolute() {
            return Err(wrong("is no absolute path"));
        }
        let found = folder
            .canonicalize()
            .map_err(|error| wrong(&format!("cannot be shared: {error}")))?;
        if !found.is_dir() {
            return Err(wrong("is no folder"));
        }
        if !folders.contains(&found) {
            folders.push(found);
        }
    }
    Ok(folders)
}

/// How a guest names what is shared with it.
#[derive(Debug, Clone, Copy)]
enum Naming {
    /// By the share's tag.
    Tag,
    /// As the host does.
    Path,
}

/// The folders of a machine that runs.
#[derive(Debug)]
pub(crate) struct Folders {
    shares: Vec<ShareRecord>,
    naming: Naming,
    /// Where the user says which they are.
    settings: PathBuf,
}

impl Folders {
    /// Mounted in the guest by their tags.
    pub(crate) fn by_tag(shares: Vec<ShareRecord>, settings: PathBuf) -> Self {
        Self {
            shares,
            naming: Naming::Tag,
            settings,
        }
    }

    /// Mounted in the guest where the host has them.
    pub(crate) fn by_path(shares: Vec<ShareRecord>, settings: PathBuf) -> Self {
        Self {
            naming: Naming::Path,
            ..Self::by_tag(shares, settings)
        }
    }

    fn find(&self, path: &Path) -> Result<BindSource, MachineError> {
        let inside = self.shares.iter().filter_map(|share| {
            let subpath = path.strip_prefix(&share.folder).ok()?;
            Some((share, subpath))
        });
        // The innermost, where one lies in another.
        let found = inside.max_by_key(|(share, _)| share.folder.as_os_str().len());
        let (share, subpath) = found.ok_or_else(|| self.not_shared(path))?;
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                MachineError::Failed(format!(
                    "{} cannot be shared with the machine, as it is not UTF-8; rename it",
                    path.display()
                ))
            })
        };
        Ok(match self.naming {
            Naming::Tag => BindSource::Share {
                tag: share.tag.clone(),
                subpath: text(subpath)?,
            },
            Naming::Path => BindSource::Path(text(path)?),
        })
    }

    fn not_shared(&self, path: &Path) -> MachineError {
        let folders: Vec<_> = self
            .shares
            .iter()
            .map(|share| share.folder.display().to_string())
            .collect();
        let shared = match folders.is_empty() {
            true => "which shares none".to_owned(),
            false => format!("which shares {}", folders.join(", ")),
        };
        MachineError::Failed(format!(
            "{} is in no folder that is shared with the machine, {shared}; add its folder to 'shared-folders' below [machine] in {}, then: isolazi vm stop",
            path.display(),
            self.settings.display()
        ))
    }
}

impl Shares for Folders {
    fn share<'a>(
        &'a mut self,
        path: &'a Path,
        // The guest mounts it so, which is all that there is: these hypervisors share a
        // folder in one way with the whole guest.
        _read_only: bool,
    ) -> LocalBoxFuture<'a, Result<BindSource, MachineError>> {
        std::future::ready(self.find(path)).boxed_local()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let shares = self.shares.iter();
        shares.map(|share| share.folder.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(folders: &[&str]) -> Vec<ShareRecord> {
        let share = |(folder, number): (&&str, u32)| ShareRecord {
            folder: folder.into(),
            read_only: false,
            tag: format!("share-{number}"),
            daemon: None,
        };
        folders.iter().zip(1..).map(share).collect()
    }

    #[test]
    fn a_path_is_found_in_the_innermost_folder() {
        let folders = Folders::by_tag(
            shares(&["/home/me", "/home/me/projects", "/x"]),
            "/c".into(),
        );
        let found = |path: &str| folders.find(Path::new(path)).unwrap();
        let share = |tag: &str, subpath: &str| BindSource::Share {
            tag: tag.to_owned(),
            subpath: subpath.to_owned(),
        };
        assert_eq!(found("/home/me/a/b"), share("share-1", "a/b"));
        assert_eq!(found("/home/me/projects/b"), share("share-2", "b"));
        assert_eq!(found("/x"), share("share-3", ""));
        let folders = Folders::by_path(shares(&["/home/me"]), "/c".into());
        let found = folders.find(Path::new("/home/me/a")).unwrap();
        assert_eq!(found, BindSource::Path("/home/me/a".to_owned()));
    }

    #[test]
    fn what_is_not_shared_names_the_setting() {
        let folders = Folders::by_tag(shares(&["/home/me"]), "/data/config.toml".into());
        for path in ["/home/mean", "/home", "/etc"] {
            let error = folders.find(Path::new(path)).unwrap_err().to_string();
            for said in [path, "/home/me", "shared-folders", "/data/config.toml"] {
                assert!(error.contains(said), "{error}");
            }
        }
    }

    #[test]
    fn settings_that_share_nothing_are_errors_that_say_where() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let config = Path::new("/data/config.toml");
        for wrong in [Path::new("a"), Path::new("/no/such/folder"), &file] {
            let error = shared_folders(Some(&[wrong.to_owned()]), config).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("config.toml") && error.contains("shared-folders"));
        }
        let twice = [temp.path().to_owned(), temp.path().join(".")];
        assert_eq!(shared_folders(Some(&twice), config).unwrap().len(), 1);
        assert!(shared_folders(Some(&[]), config).unwrap().is_empty());
    }
}
