//! The appliance's folder, which is whole at every moment.
//!
//! ```text
//!  .x86_64.partial/  files, manifest last, all written back
//!        │ exchange (one rename)
//!        ▼
//!  x86_64/           what the host reads
//! ```
//!
//! The old folder goes away after the exchange. Whoever has its files open
//! (a machine that runs) keeps them until it closes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isolazi_protocol::appliance::{FileEntry, MANIFEST, Manifest};

use crate::cache;
use crate::error::BuildError;
use crate::files::{self, FileError, failed};

/// Where a file's content comes from.
#[derive(Debug)]
pub(crate) enum Content {
    /// A file elsewhere.
    File(PathBuf),
    /// Memory.
    Bytes(Vec<u8>),
}

/// A file to be in the appliance.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) content: Content,
}

/// Whether `folder` holds exactly what `manifest` says, byte for byte.
pub(crate) fn is_current(folder: &Path, manifest: &Manifest) -> bool {
    let Ok(text) = fs::read(folder.join(MANIFEST)) else {
        return false;
    };
    let Ok(found) = serde_json::from_slice::<Manifest>(&text) else {
        return false;
    };
    let mut files = manifest.files.iter();
    found == *manifest && files.all(|(name, entry)| holds(&folder.join(name.as_str()), entry))
}

fn holds(path: &Path, entry: &FileEntry) -> bool {
    files::entry_of_file(path).is_ok_and(|found| found == *entry)
}

/// Puts a new appliance in the place of `folder`.
pub(crate) fn replace(
    folder: &Path,
    manifest: &Manifest,
    items: &[Item],
    waiting: impl FnOnce(),
) -> Result<(), BuildError> {
    check_replaceable(folder)?;
    let (parent, name) = split(folder);
    fs::create_dir_all(&parent).map_err(failed("create", &parent))?;
    let _lock = cache::lock(&parent.join(format!(".{name}.lock")), waiting)?;
    let partial = parent.join(format!(".{name}.partial"));
    files::remove_tree(&partial)?;
    fs::create_dir(&partial).map_err(failed("create", &partial))?;
    fill(&partial, manifest, items)?;
    exchange(&partial, folder).map_err(failed("replace", folder))?;
    files::sync_folder(&parent)?;
    files::remove_tree(&partial)?;
    Ok(())
}

/// Refuses a folder that is something else than an appliance: a typing error in
/// `--output` must not cost somebody a folder.
pub(crate) fn check_replaceable(folder: &Path) -> Result<(), BuildError> {
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", folder)(error).into()),
    };
    if folder.join(MANIFEST).is_file() || entries.next().is_none() {
        return Ok(());
    }
    Err(BuildError::NotAnAppliance(folder.to_owned()))
}

fn split(folder: &Path) -> (PathBuf, String) {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = folder.file_name().unwrap_or_default();
    (parent.to_owned(), name.to_string_lossy().into_owned())
}

fn fill(partial: &Path, manifest: &Manifest, items: &[Item]) -> Result<(), BuildError> {
    for item in items {
        let target = partial.join(&item.name);
        let written = match &item.content {
            Content::File(source) => {
                let written = files::copy_sparse(source, &target, item.mode)?;
                if written != *manifest.entry(&item.name)? {
                    return Err(BuildError::CacheDamaged(source.clone()));
                }
                written
            }
            Content::Bytes(bytes) => {
                files::write_new(&target, item.mode, bytes)?;
                files::entry_of_bytes(bytes)
            }
        };
        debug_assert_eq!(manifest.files.get(item.name.as_str()), Some(&written));
    }
    write_manifest(partial, manifest)?;
    Ok(files::sync_folder(partial)?)
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), FileError> {
    let path = folder.join(MANIFEST);
    let text = serde_json::to_string_pretty(manifest).map_err(io::Error::other);
    let text = text.map_err(failed("describe", &path))? + "\n";
    files::write_new(&path, 0o644, text.as_bytes())
}

/// Puts `new` where `old` is, and `old`, if there is one, where `new` was.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) => fs::rename(new, old),
        // File systems that cannot exchange: there is no appliance for a moment.
        Err(Errno::EINVAL) => {
            let aside = new.with_extension("old");
            fs::rename(old, &aside)?;
            fs::rename(new, old)?;
            fs::rename(aside, new)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::appliance::{DATA_TEMPLATE, FileName, INITRAMFS, Kernel};
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> FileName {
        FileName::try_from(text.to_owned()).unwrap()
    }

    fn appliance(kernel: &str) -> (Manifest, Vec<Item>) {
        let contents = [("vmlinux", kernel), (INITRAMFS, "i"), (DATA_TEMPLATE, "d")];
        let items = contents.map(|(file, text)| Item {
            name: file.to_owned(),
            mode: 0o755,
            content: Content::Bytes(text.as_bytes().to_vec()),
        });
        let entries =
            contents.map(|(file, text)| (name(file), files::entry_of_bytes(text.as_bytes())));
        let about = Kernel {
            version: "6.12".to_owned(),
            file: name("vmlinux"),
        };
        let files = BTreeMap::from(entries);
        let manifest = Manifest::new("x86_64".to_owned(), "0".to_owned(), about, files);
        (manifest, items.into())
    }

    #[test]
    fn an_appliance_is_replaced_as_a_whole_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep/x86_64");
        let (first, items) = appliance("one");
        assert!(!is_current(&folder, &first));
        replace(&folder, &first, &items, || ()).unwrap();
        assert!(is_current(&folder, &first));
        let mode = fs::metadata(folder.join("vmlinux")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
        let (second, items) = appliance("two");
        assert!(!is_current(&folder, &second));
        replace(&folder, &second, &items, || ()).unwrap();
        assert!(is_current(&folder, &second));
        let left: Vec<_> = fs::read_dir(dir.path().join("deep"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        assert_eq!(left, ["x86_64"]);
    }

    #[test]
    fn a_changed_file_is_not_current() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x86_64");
        let (manifest, items) = appliance("one");
        replace(&folder, &manifest, &items, || ()).unwrap();
        fs::write(folder.join("vmlinux"), "onf").unwrap();
        assert!(!is_current(&folder, &manifest));
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let thesis = dir.path().join("thesis.tex");
        fs::write(&thesis, "years").unwrap();
        let (manifest, items) = appliance("one");
        let refusal = replace(dir.path(), &manifest, &items, || ()).unwrap_err();
        assert!(matches!(refusal, BuildError::NotAnAppliance(_)));
        assert!(thesis.exists());
    }

    #[test]
    fn a_damaged_cache_is_noticed_and_the_old_appliance_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x86_64");
        let (first, items) = appliance("one");
        replace(&folder, &first, &items, || ()).unwrap();
        let (second, mut items) = appliance("two");
        let cached = dir.path().join("cached");
        fs::write(&cached, "tw0").unwrap();
        items[0].content = Content::File(cached);
        let error = replace(&folder, &second, &items, || ()).unwrap_err();
        assert!(matches!(error, BuildError::CacheDamaged(_)), "{error}");
        assert!(is_current(&folder, &first));
    }
}
