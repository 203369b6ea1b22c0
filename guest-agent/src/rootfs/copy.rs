//! Copies a tree as it is: owners or others in their place, modes, extended attributes,
//! times, hard links. Every name is looked up in a folder's descriptor and no link is ever
//! followed, so nothing outside the two trees is touched.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

use crate::sys::fs::{
    as_path, create_file_at, is_dir, is_link, list_dir, open_dir_at, set_xattr, stat_at,
};
use crate::sys::idmap::IdMap;
use crate::sys::xattr;

/// Folders within folders; two descriptors each.
const DEEPEST: usize = 200;

/// What overlayfs keeps for itself.
const OVERLAYS_OWN: &[u8] = b"trusted.overlay.";

/// Who owns the copies.
#[derive(Debug)]
pub(crate) enum Owners {
    /// Who owns the originals.
    Same,
    /// Those that they are mapped to.
    Mapped {
        /// Of users.
        users: Substitutes,
        /// Of groups.
        groups: Substitutes,
    },
}

/// Ids for others.
#[derive(Debug)]
pub(crate) struct Substitutes {
    map: IdMap,
    /// For all that are not mapped, one that nobody is mapped to.
    nobody: Option<u32>,
}

impl Owners {
    /// Those that a container with these users and groups has in the caller's user
    /// namespace.
    pub(crate) fn of_container((users, groups): &(IdMap, IdMap)) -> io::Result<Self> {
        Ok(Self::Mapped {
            users: Substitutes::new(users.clone(), &IdMap::of_users()?),
            groups: Substitutes::new(groups.clone(), &IdMap::of_groups()?),
        })
    }

    fn of(&self, stat: &FileStat) -> io::Result<(Uid, Gid)> {
        let (user, group) = match self {
            Self::Same => (stat.st_uid, stat.st_gid),
            Self::Mapped { users, groups } => (
                users.of("user", stat.st_uid)?,
                groups.of("group", stat.st_gid)?,
            ),
        };
        Ok((Uid::from_raw(user), Gid::from_raw(group)))
    }
}

impl Substitutes {
    fn new(map: IdMap, own: &IdMap) -> Self {
        let nobody = own.last_but(&map);
        Self { map, nobody }
    }

    fn of(&self, kind: &str, id: u32) -> io::Result<u32> {
        let known = self.map.outside_of(id).or(self.nobody);
        known.ok_or_else(|| {
            let option = &kind[..1];
            io::Error::other(format!(
                "it has files of {kind} {id}, whom --{option}id-map leaves out, and there is no id left for whoever is not mapped; map {kind} {id}, too"
            ))
        })
    }
}

/// A folder that is being copied.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    left: std::vec::IntoIter<Vec<u8>>,
    /// Where `to` is, below the top.
    path: Vec<u8>,
}

impl Level {
    fn new(from: OwnedFd, to: OwnedFd, path: Vec<u8>) -> io::Result<Self> {
        let left = list_dir(from.as_fd())?.into_iter();
        Ok(Self {
            from,
            to,
            left,
            path,
        })
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        [&self.path, slash, name].concat()
    }

    /// Makes a folder of it, and that the next level.
    fn descend(&self, name: &[u8]) -> io::Result<Self> {
        let from = open_dir_at(self.from.as_fd(), name)?;
        mkdirat(&self.to, name, Mode::S_IRWXU)?;
        let to = open_dir_at(self.to.as_fd(), name)?;
        Self::new(from, to, self.path_of(name))
    }
}

/// Copies all that is in `from`, and its attributes, into the empty folder `to`.
pub(crate) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owners: &Owners) -> io::Result<()> {
    let top = Level::new(from.try_clone_to_owned()?, to.try_clone_to_owned()?, vec![])?;
    let mut levels = vec![top];
    // Files of several names, by what they were: where the first of them is.
    let mut linked: HashMap<(libc::dev_t, libc::ino_t), Vec<u8>> = HashMap::new();
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.next() else {
            // Its times last: making what is in it changes them.
            Attributes::of(level.from.as_fd())?.apply(level.to.as_fd(), owners)?;
            levels.pop();
            continue;
        };
        let stat = stat_at(level.from.as_fd(), &name)?;
        if is_dir(&stat) {
            let deeper = level.descend(&name)?;
            if levels.len() == DEEPEST {
                let text = format!("folders are nested more than {DEEPEST} deep");
                return Err(io::Error::other(text));
            }
            levels.push(deeper);
            continue;
        }
        let identity = (stat.st_dev, stat.st_ino);
        match linked.get(&identity) {
            Some(first) => linkat(
                to,
                first.as_slice(),
                &level.to,
                name.as_slice(),
                AtFlags::empty(),
            )?,
            None => {
                one(level, &name, &stat, owners)?;
                if stat.st_nlink > 1 {
                    linked.insert(identity, level.path_of(&name));
                }
            }
        }
    }
    Ok(())
}

/// Copies what is not a folder.
fn one(level: &Level, name: &[u8], stat: &FileStat, owners: &Owners) -> io::Result<()> {
    if stat.st_mode & libc::S_IFMT == libc::S_IFREG {
        return file(level, name, owners);
    }
    if is_link(stat) {
        let target = readlinkat(&level.from, name)?;
        symlinkat(target.as_os_str(), &level.to, name)?;
    } else {
        let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        mknodat(&level.to, name, kind, mode, stat.st_rdev)?;
        crate::sys::fs::chmod_at(level.to.as_fd(), name, mode)?;
    }
    let (uid, gid) = owners.of(stat)?;
    let not_followed = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(&level.to, name, Some(uid), Some(gid), not_followed)?;
    let (accessed, modified) = times(stat);
    let not_followed = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(
        &level.to,
        as_path(name),
        &accessed,
        &modified,
        not_followed,
    )?)
}

fn file(level: &Level, name: &[u8], owners: &Owners) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut from = File::from(openat(&level.from, name, flags, Mode::empty())?);
    let mut to = create_file_at(level.to.as_fd(), name)?;
    io::copy(&mut from, &mut to)?;
    Attributes::of(from.as_fd())?.apply(to.as_fd(), owners)
}

/// All of a file or folder but its content.
pub(crate) struct Attributes {
    stat: FileStat,
    extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    pub(crate) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mut extended = xattr::all(file)?;
        extended.retain(|(name, _)| !name.to_bytes().starts_with(OVERLAYS_OWN));
        Ok(Self {
            stat: fstat(file)?,
            extended,
        })
    }

    /// Gives them to another one. The order matters: a change of owner takes
    /// set-user-id bits and file capabilities away.
    pub(crate) fn apply(&self, file: BorrowedFd<'_>, owners: &Owners) -> io::Result<()> {
        let (uid, gid) = owners.of(&self.stat)?;
        fchown(file, Some(uid), Some(gid))?;
        fchmod(file, Mode::from_bits_truncate(self.stat.st_mode & 0o7777))?;
        for (name, value) in &self.extended {
            match set_xattr(file, name, value) {
                // The copy's file system does not know this kind.
                Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
                other => other?,
            }
        }
        let (accessed, modified) = times(&self.stat);
        Ok(futimens(file, &accessed, &modified)?)
    }
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}
