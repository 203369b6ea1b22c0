//! Extracts what a guest sends into a folder of this host's.
//!
//! The guest is not trusted. Everything is made by name in a folder that is
//! held open, no symbolic link is ever followed (neither one that was there
//! nor one that just came), and nothing is made outside the one name, or the
//! one folder, that the user asked for. Files appear whole: they are written
//! under another name and then renamed. Device files, sets-id bits (without
//! `-a`) and extended attributes stay in the guest.

mod entry;

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::SystemTime;

use cap_fs_ext::DirExt;
#[cfg(unix)]
use cap_fs_ext::SystemTimeSpec;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use tar::{Archive, EntryType};

use super::pax::Pax;
use entry::{Entry, describe, parts, read_pax};

/// Folders whose attributes are set at the end; of further ones they are not.
const MOST_FOLDERS: usize = 1 << 20;

/// Why the copy failed.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The bytes ended or make no sense.
    #[error("what the agent sent cannot be read")]
    Read(#[source] io::Error),
    /// They make sense, but not as the copy that was asked for.
    #[error("the agent sent something else than what was asked for: {0}")]
    Unexpected(&'static str),
    /// This host refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Where the copy goes.
#[derive(Debug)]
pub enum Destination {
    /// It is to have this name in this folder.
    Named(PathBuf, OsString),
    /// What is in it goes into this folder, which keeps its own attributes.
    Content(PathBuf),
}

/// What was extracted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes of files.
    pub bytes: u64,
    /// Devices, and links that this system cannot make.
    pub left_out: u64,
}

/// Extracts the tar of one thing, whose root entry is `.`; with `keep_owner`
/// it belongs to the same ids as in the container.
pub fn extract(
    tar: impl Read,
    destination: &Destination,
    keep_owner: bool,
) -> Result<Extracted, ExtractError> {
    let (folder, name) = match destination {
        Destination::Named(folder, name) => (folder, Some(name.clone())),
        Destination::Content(folder) => (folder, None),
    };
    let open = Dir::open_ambient_dir(folder, ambient_authority());
    let above = open.map_err(|source| ExtractError::Io {
        action: "open",
        path: folder.clone(),
        source,
    })?;
    let mut extraction = Extraction {
        shown: folder.clone(),
        keep_owner,
        above,
        name,
        root: None,
        parent: None,
        complete: false,
        folders: Vec::new(),
        temporary: 0,
        done: Extracted::default(),
    };
    extraction.run(Archive::new(tar))?;
    extraction.settle_folders()?;
    Ok(extraction.done)
}

struct Extraction {
    /// For messages.
    shown: PathBuf,
    #[cfg_attr(not(unix), expect(dead_code, reason = "files have no such owner"))]
    keep_owner: bool,
    /// The folder that the copy, or its content, goes into.
    above: Dir,
    name: Option<OsString>,
    /// The copy itself, where it is a folder.
    root: Option<Dir>,
    /// The folder last used.
    parent: Option<(Vec<OsString>, Dir)>,
    /// Nothing may follow.
    complete: bool,
    folders: Vec<Entry>,
    temporary: u64,
    done: Extracted,
}

impl Extraction {
    fn run<R: Read>(&mut self, mut archive: Archive<R>) -> Result<(), ExtractError> {
        let mut pax = Pax::default();
        let entries = archive.entries().map_err(ExtractError::Read)?.raw(true);
        for entry in entries {
            let mut entry = entry.map_err(ExtractError::Read)?;
            if entry.header().entry_type() == EntryType::XHeader {
                pax = read_pax(&mut entry)?;
                continue;
            }
            let described = describe(entry.header(), std::mem::take(&mut pax))?;
            self.entry(described, &mut entry)?;
        }
        match self.complete || self.root.is_some() {
            true => Ok(()),
            false => Err(ExtractError::Unexpected("nothing")),
        }
    }

    fn entry(&mut self, entry: Entry, content: &mut impl Read) -> Result<(), ExtractError> {
        if self.complete {
            return Err(ExtractError::Unexpected("more than one file"));
        }
        let Some((name, above)) = entry.path.split_last() else {
            return self.root_entry(entry, content);
        };
        let (name, above) = (name.clone(), above.to_vec());
        let parent = self.open_parent(&above)?;
        let made = self.make(&parent, &name, &entry, content);
        self.parent = Some((above, parent));
        if made? && entry.kind.is_dir() && self.folders.len() < MOST_FOLDERS {
            // Its attributes are set once nothing is made in it any more.
            self.folders.push(entry);
        }
        Ok(())
    }

    /// The first entry, which says what everything else is in.
    fn root_entry(
        &mut self,
        mut entry: Entry,
        content: &mut impl Read,
    ) -> Result<(), ExtractError> {
        if self.root.is_some() {
            return Err(ExtractError::Unexpected("two beginnings"));
        }
        let above = self.clone_of(&self.above)?;
        let Some(name) = self.name.clone() else {
            if !entry.kind.is_dir() {
                return Err(ExtractError::Unexpected("no folder"));
            }
            self.root = Some(above);
            return Ok(());
        };
        let fresh = self.make(&above, &name, &entry, content)?;
        if !entry.kind.is_dir() {
            self.complete = true;
            return Ok(());
        }
        let root = above.open_dir_nofollow(&name);
        self.root = Some(root.map_err(self.failed("open", &name))?);
        if fresh {
            entry.path = Vec::new();
            self.folders.push(entry);
        }
        Ok(())
    }

    /// Makes one thing; `false` where it is a folder that was there.
    fn make(
        &mut self,
        folder: &Dir,
        name: &OsString,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<bool, ExtractError> {
        match entry.kind {
            EntryType::Directory => return self.make_folder(folder, name),
            EntryType::Regular => self.make_file(folder, name, entry, content)?,
            EntryType::Symlink => self.make_symlink(folder, name, entry)?,
            EntryType::Link => self.make_hard_link(folder, name, entry)?,
            EntryType::Fifo | EntryType::Char | EntryType::Block => self.done.left_out += 1,
            _ => return Err(ExtractError::Unexpected("an entry of an unknown kind")),
        }
        Ok(true)
    }

    fn make_folder(&self, folder: &Dir, name: &OsString) -> Result<bool, ExtractError> {
        let failed = self.failed("make the folder", name);
        match folder.create_dir(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match folder.symlink_metadata(name) {
                    Ok(there) if there.is_dir() => Ok(false),
                    Ok(_) => Err(failed(io::Error::other("a file is in the way"))),
                    Err(error) => Err(failed(error)),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn make_file(
        &mut self,
        folder: &Dir,
        name: &OsString,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), ExtractError> {
        let temporary = self.temporary_name();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = folder.open_with(&temporary, &options);
        let file = file.map_err(self.failed("create", name))?.into_std();
        let written = self
            .fill(&file, name, entry, content)
            .and_then(|()| self.finish_file(&file, name, entry))
            .and_then(|()| self.put(folder, &temporary, name));
        self.done.bytes += entry.size;
        written.inspect_err(|_| {
            // It may have its name already.
            let _ = folder.remove_file(&temporary);
        })
    }

    fn fill(
        &self,
        mut file: &std::fs::File,
        name: &OsString,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), ExtractError> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = entry.size;
        while left > 0 {
            let read = content.read(&mut buffer).map_err(ExtractError::Read)?;
            if read == 0 {
                return Err(ExtractError::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            left = left.saturating_sub(read as u64);
            let bytes = &buffer[..read];
            // A long run of zeros becomes a hole.
            let written = match read >= 4096 && bytes.iter().all(|byte| *byte == 0) {
                true => file.seek(SeekFrom::Current(read as i64)).map(drop),
                false => file.write_all(bytes),
            };
            written.map_err(self.failed("write", name))?;
        }
        file.set_len(entry.size).map_err(self.failed("write", name))
    }

    fn finish_file(
        &self,
        file: &std::fs::File,
        name: &OsString,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        self.set_owner_and_mode(file, entry)
            .and_then(|()| file.set_times(std::fs::FileTimes::new().set_modified(entry.modified)))
            .map_err(self.failed("set the attributes of", name))
    }

    #[cfg(unix)]
    fn set_owner_and_mode(&self, file: &std::fs::File, entry: &Entry) -> io::Result<()> {
        use std::os::unix::fs::{PermissionsExt, fchown};
        let kept = if self.keep_owner { 0o7777 } else { 0o1777 };
        if let Some((user, group)) = self.owner(entry)? {
            fchown(file, Some(user), Some(group))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(entry.mode & kept))
    }

    #[cfg(not(unix))]
    fn set_owner_and_mode(&self, _: &std::fs::File, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    /// The ids to set, where they are to be kept.
    #[cfg(unix)]
    fn owner(&self, entry: &Entry) -> io::Result<Option<(u32, u32)>> {
        if !self.keep_owner {
            return Ok(None);
        }
        let id = |id| u32::try_from(id).map_err(|_| io::Error::other("impossible owner"));
        Ok(Some((id(entry.owner.0)?, id(entry.owner.1)?)))
    }

    #[cfg(unix)]
    fn make_symlink(
        &mut self,
        folder: &Dir,
        name: &OsString,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        use std::os::unix::ffi::OsStringExt;
        let target = OsString::from_vec(entry.link.clone().unwrap_or_default());
        let temporary = self.temporary_name();
        let failed = || self.failed("link", name);
        folder
            .symlink_contents(target, &temporary)
            .map_err(failed())?;
        let times = Some(spec(entry.modified));
        let finished = folder
            .set_symlink_times(&temporary, None, times)
            .and_then(|()| self.own_symlink(folder, &temporary, entry))
            .map_err(failed())
            .and_then(|()| self.put(folder, &temporary, name));
        finished.inspect_err(|_| {
            let _ = folder.remove_file(&temporary);
        })
    }

    #[cfg(unix)]
    fn own_symlink(&self, folder: &Dir, name: &Path, entry: &Entry) -> io::Result<()> {
        use nix::unistd::{Gid, Uid, fchownat};
        let Some((user, group)) = self.owner(entry)? else {
            return Ok(());
        };
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        Ok(fchownat(folder, name, user, group, flags)?)
    }

    /// Other systems want a privilege for links, and to know what they lead to.
    #[cfg(not(unix))]
    fn make_symlink(&mut self, _: &Dir, _: &OsString, _: &Entry) -> Result<(), ExtractError> {
        self.done.left_out += 1;
        Ok(())
    }

    fn make_hard_link(
        &mut self,
        folder: &Dir,
        name: &OsString,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let target = parts(entry.link.as_deref().unwrap_or_default())?;
        let Some((target_name, above)) = target.split_last() else {
            return Err(ExtractError::Unexpected("a link to the folder itself"));
        };
        let from = self.walk(above)?;
        let temporary = self.temporary_name();
        from.hard_link(target_name, folder, &temporary)
            .map_err(self.failed("link", name))?;
        let put = self.put(folder, &temporary, name);
        // Two names of the same file are not renamed over each other.
        let _ = folder.remove_file(&temporary);
        put
    }

    /// Gives a finished thing its name.
    fn put(&self, folder: &Dir, temporary: &Path, name: &OsString) -> Result<(), ExtractError> {
        let failed = self.failed("create", name);
        folder.rename(temporary, folder, name).map_err(failed)
    }

    fn temporary_name(&mut self) -> PathBuf {
        self.temporary += 1;
        format!(".isolazi-{:x}-{}.tmp", std::process::id(), self.temporary).into()
    }

    fn open_parent(&mut self, above: &[OsString]) -> Result<Dir, ExtractError> {
        match self.parent.take() {
            Some((path, dir)) if path == above => Ok(dir),
            _ => self.walk(above),
        }
    }

    /// Opens a folder of the copy, through no link.
    fn walk(&self, path: &[OsString]) -> Result<Dir, ExtractError> {
        let root = self.root.as_ref();
        let root = root.ok_or(ExtractError::Unexpected("no folder to begin with"))?;
        let mut dir = self.clone_of(root)?;
        for name in path {
            let next = dir.open_dir_nofollow(name);
            dir = next.map_err(self.failed("open the folder", name))?;
        }
        Ok(dir)
    }

    fn clone_of(&self, dir: &Dir) -> Result<Dir, ExtractError> {
        dir.try_clone()
            .map_err(self.failed("open", &OsString::new()))
    }

    /// Innermost first, since setting one changes nothing of what is in it.
    fn settle_folders(&mut self) -> Result<(), ExtractError> {
        self.parent = None;
        while let Some(entry) = self.folders.pop() {
            let folder = self.walk(&entry.path)?;
            let name = entry.path.last().or(self.name.as_ref());
            let name = name.cloned().unwrap_or_default();
            self.finish_folder(&folder, &name, &entry)?;
        }
        Ok(())
    }

    #[cfg(unix)]
    fn finish_folder(
        &self,
        folder: &Dir,
        name: &OsString,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let failed = self.failed("set the attributes of", name);
        // The folder was opened as a place only.
        let open = folder.open(".").map_err(failed)?.into_std();
        self.finish_file(&open, name, entry)
    }

    /// Folders have neither mode nor owner on other systems.
    #[cfg(not(unix))]
    fn finish_folder(&self, _: &Dir, _: &OsString, _: &Entry) -> Result<(), ExtractError> {
        Ok(())
    }

    fn failed(
        &self,
        action: &'static str,
        name: &OsString,
    ) -> impl FnOnce(io::Error) -> ExtractError + use<> {
        let path = self.shown.join(name);
        move |source| ExtractError::Io {
            action,
            path,
            source,
        }
    }
}

#[cfg(unix)]
fn spec(time: SystemTime) -> SystemTimeSpec {
    SystemTimeSpec::from(cap_std::time::SystemTime::from_std(time))
}

#[cfg(test)]
mod tests;
