//! Makes what the archive's members describe.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, makedev, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid, linkat, symlinkat};

use crate::sys::fs;
use crate::sys::idmap::{IdMap, is_nested};

use super::archive::{Archive, FileData, Kind, Member};
use super::name::{Meaning, NameError, Place};
use super::owner::Owners;
use super::sparse::SparseMap;
use super::stream::Pieces;
use super::tree::{Folder, Manner, Tree};
use super::{Limits, OverlayXattrs, UnpackError};

/// The largest file of ext4, which most have; others take larger holes, that
/// no container could then be moved with.
const LARGEST_FILE: u64 = 16 << 40;

/// What was made.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) ignored_xattrs: u64,
}

/// Owner, mode, times and attributes, checked.
struct Metadata<'a> {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    mtime: TimeSpec,
    xattrs: Vec<(CString, &'a [u8])>,
}

impl<'a> Metadata<'a> {
    fn new(member: &'a Member, owners: &Owners) -> Result<Self, UnpackError> {
        let impossible = |what| UnpackError::Value {
            name: member.name.as_slice().into(),
            what,
        };
        let unknown = |what, id: u64, file| match Owners::is_possible(id) {
            true => UnpackError::Owner {
                name: member.name.as_slice().into(),
                what,
                id,
                file,
            },
            false => impossible(what),
        };
        let (uid, gid) = (owners.user(member.uid), owners.group(member.gid));
        Ok(Self {
            uid: uid.ok_or_else(|| unknown("user", member.uid, "/etc/subuid"))?,
            gid: gid.ok_or_else(|| unknown("group", member.gid, "/etc/subgid"))?,
            mode: Mode::from_bits_truncate(member.mode),
            mtime: member.mtime,
            xattrs: xattrs(member).ok_or_else(|| impossible("attribute name"))?,
        })
    }
}

/// The attributes to set: overlayfs's own are not for images to say.
fn xattrs(member: &Member) -> Option<Vec<(CString, &[u8])>> {
    let reserved = |name: &[u8]| {
        let mut prefixes = OverlayXattrs::ALL_PREFIXES.iter();
        prefixes.any(|prefix| name.starts_with(prefix))
    };
    let wanted = member.xattrs.iter().filter(|(name, _)| !reserved(name));
    wanted
        .map(|(name, value)| Some((CString::new(name.as_slice()).ok()?, value.as_slice())))
        .collect()
}

/// Takes an archive apart into a tree.
pub(super) struct Extractor<'a, P> {
    archive: Archive<P>,
    root: BorrowedFd<'a>,
    tree: Tree<'a>,
    manner: Manner,
    /// Goes before every name.
    below: Vec<u8>,
    limits: Limits,
    owners: Owners,
    /// Owner and group that new files have anyway.
    default_owner: (Uid, Gid),
    counts: Counts,
}

impl<'a, P: Pieces> Extractor<'a, P> {
    pub(super) fn new(pieces: P, root: BorrowedFd<'a>, limits: Limits, manner: Manner) -> Self {
        Self {
            archive: Archive::new(pieces, &limits),
            root,
            tree: Tree::new(root, manner),
            manner,
            below: Vec::new(),
            limits,
            owners: Owners::here(),
            default_owner: (geteuid(), getegid()),
            counts: Counts::default(),
        }
    }

    /// Extracts into the folder `below` of the root.
    pub(super) fn below(mut self, below: &[u8]) -> Self {
        self.tree.set_below(below);
        self.below = below.to_vec();
        self
    }

    /// Takes the archive's owners for those of a container with these ids.
    pub(super) fn owned_by(mut self, ids: Option<(IdMap, IdMap)>) -> Self {
        if let Some(ids) = ids {
            self.owners = Owners::mapped(ids);
        }
        self
    }

    /// Extracts all there is and reads the stream to its end.
    pub(super) fn run(mut self) -> Result<Counts, UnpackError> {
        while let Some(member) = self.archive.next()? {
            self.member(&member)?;
            self.counts.entries += 1;
        }
        self.tree
            .leave()
            .map_err(|error| UnpackError::at(b"/", "set the time of", error))?;
        self.archive.finish()?;
        Ok(self.counts)
    }

    fn member(&mut self, member: &Member) -> Result<(), UnpackError> {
        let name = member.name.as_slice();
        let refuse = |source| UnpackError::Name {
            name: name.into(),
            source,
        };
        let place = Place::parse_below(&self.below, name, self.limits.name);
        let Some(place) = place.map_err(refuse)? else {
            return match member.kind {
                Kind::Directory => self.root_entry(member),
                _ => Err(refuse(NameError::Root)),
            };
        };
        if self.manner == Manner::Copy {
            return self.content(&place, member);
        }
        let folder = place.parent();
        match place.meaning().map_err(refuse)? {
            Meaning::Content => self.content(&place, member),
            Meaning::Ignored => Ok(()),
            Meaning::Whiteout(hidden) => self.hide(folder, name, |it| it.hide(hidden)),
            Meaning::Opaque => self.hide(folder, name, Folder::hide_below),
        }
    }

    /// Hides something that the layers below have in `folder`.
    fn hide(
        &mut self,
        folder: &[u8],
        name: &[u8],
        hide: impl FnOnce(&Folder) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        match self.tree.folder(folder).and_then(hide) {
            // A file of this layer in the folder's place hides all of it. (umoci
            // lists what was in a folder that a file has replaced.)
            Err(error)
                if error.kind() == io::ErrorKind::NotADirectory
                    && self.tree.is_below_a_file(folder) =>
            {
                Ok(())
            }
            result => result.map_err(|error| UnpackError::at(name, "make the whiteout", error)),
        }
    }

    fn root_entry(&mut self, member: &Member) -> Result<(), UnpackError> {
        let metadata = Metadata::new(member, &self.owners)?;
        self.tree
            .leave()
            .and_then(|()| finish_open(self.root, &metadata, true))
            .map(|ignored| self.counts.ignored_xattrs += ignored)
            .map_err(|error| UnpackError::at(b"/", "set the attributes of", error))
    }

    fn content(&mut self, place: &Place, member: &Member) -> Result<(), UnpackError> {
        let metadata = Metadata::new(member, &self.owners)?;
        let failed = |action| move |error| UnpackError::at(place.path(), action, error);
        let folder = self.tree.folder(place.parent());
        let folder = folder.map_err(failed("open the folder of"))?;
        let name = place.name();
        let done = match &member.kind {
            Kind::File(data) => {
                let file = folder.replace(name, |dir| fs::create_file_at(dir, name));
                let file = file.map_err(failed("create"))?;
                fill(&mut self.archive, &file, data, place, self.manner)?;
                let owner = (metadata.uid, metadata.gid);
                let chown = owner != self.default_owner || folder.gives_its_group();
                finish_open(file, &metadata, chown)
            }
            Kind::Directory => folder
                .make_dir(name)
                .and_then(|made| finish_open(made, &metadata, true)),
            Kind::HardLink(target) => {
                let no_target = || UnpackError::LinkTarget {
                    name: place.path().into(),
                    target: target.as_slice().into(),
                };
                let refuse = |source| UnpackError::Name {
                    name: target.as_slice().into(),
                    source,
                };
                let target = Place::parse_below(&self.below, target, self.limits.name);
                let target = target.map_err(refuse)?.ok_or_else(no_target)?;
                let made = hard_link(self.root, folder, place, &target, self.manner);
                return made?.ok_or_else(no_target);
            }
            Kind::Symlink(target) => folder
                .replace(name, |dir| Ok(symlinkat(target.as_slice(), dir, name)?))
                .and_then(|()| finish_at(folder, name, &metadata, None)),
            special => {
                let (kind, device) = node(special).ok_or_else(|| UnpackError::Value {
                    name: name.into(),
                    what: "device number",
                })?;
                let made = folder.replace(name, |dir| {
                    Ok(mknodat(dir, name, kind, Mode::empty(), device)?)
                });
                match made {
                    // Nor could it be opened: containers get their devices otherwise.
                    Err(error) if is_refused(&error) && kind != SFlag::S_IFIFO && is_nested() => {
                        return Ok(());
                    }
                    made => {
                        made.and_then(|()| finish_at(folder, name, &metadata, Some(metadata.mode)))
                    }
                }
            }
        };
        self.counts.ignored_xattrs += done.map_err(failed("make"))?;
        Ok(())
    }
}

/// Writes a file's data.
fn fill<P: Pieces>(
    archive: &mut Archive<P>,
    mut file: &File,
    data: &FileData,
    place: &Place,
    manner: Manner,
) -> Result<(), UnpackError> {
    let failed = |error| UnpackError::at(place.path(), "write", error);
    match data {
        FileData::Sparse(map) => fill_sparse(archive, file, map, place),
        FileData::Whole(size) => loop {
            let bytes = archive.data(*size)?;
            if bytes.is_empty() && manner == Manner::Copy {
                return file.set_len(*size).map_err(failed);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            match manner {
                Manner::Layer(_) => file.write_all(bytes),
                Manner::Copy => write_with_holes(file, bytes),
            }
            .map_err(failed)?;
        },
    }
}

/// Leaves a hole for each long run of zeros: holes are not told by archives.
fn write_with_holes(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    const RUN: usize = 32 << 10;
    for part in bytes.chunks(RUN) {
        if part.len() == RUN && part.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(RUN as i64))?;
        } else {
            file.write_all(part)?;
        }
    }
    Ok(())
}

fn fill_sparse<P: Pieces>(
    archive: &mut Archive<P>,
    file: &File,
    map: &SparseMap,
    place: &Place,
) -> Result<(), UnpackError> {
    let failed = |error| UnpackError::at(place.path(), "write", error);
    if map.size > LARGEST_FILE {
        return Err(failed(Errno::EFBIG.into()));
    }
    for (mut offset, length) in map.stretches.iter().copied() {
        let end = offset + length;
        while offset < end {
            let bytes = archive.data(end - offset)?;
            file.write_all_at(bytes, offset).map_err(failed)?;
            offset += bytes.len() as u64;
        }
    }
    file.set_len(map.size).map_err(failed)
}

fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// Kind and number of a node that is neither file, folder nor link.
fn node(kind: &Kind) -> Option<(SFlag, u64)> {
    let device = |major: u64, minor: u64| {
        // 12 and 20 bits is what the kernel keeps.
        (major < 1 << 12 && minor < 1 << 20).then(|| makedev(major, minor))
    };
    Some(match kind {
        Kind::Character(major, minor) => (SFlag::S_IFCHR, device(*major, *minor)?),
        Kind::Block(major, minor) => (SFlag::S_IFBLK, device(*major, *minor)?),
        _ => (SFlag::S_IFIFO, 0),
    })
}

/// Makes `place` another name of `target`; `None` where that is nothing that
/// can have one.
fn hard_link(
    root: BorrowedFd<'_>,
    folder: &Folder,
    place: &Place,
    target: &Place,
    manner: Manner,
) -> Result<Option<()>, UnpackError> {
    let Ok(from) = manner.open_dir(root, target.parent()) else {
        return Ok(None);
    };
    let Ok(stat) = fs::stat_at(from.as_fd(), target.name()) else {
        return Ok(None);
    };
    if fs::is_dir(&stat) || fs::is_whiteout(&stat) {
        return Ok(None);
    }
    let name = place.name();
    if let Ok(old) = fs::stat_at(folder.change(), name)
        && (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)
    {
        return Ok(Some(()));
    }
    folder
        .replace(name, |dir| {
            Ok(linkat(&from, target.name(), dir, name, AtFlags::empty())?)
        })
        .map(Some)
        .map_err(|error| UnpackError::at(place.path(), "link", error))
}

/// Gives an open file or folder its metadata. The order matters: a change of
/// owner clears set-id bits and capabilities, and time comes last. Returns the
/// number of attributes that were ignored.
fn finish_open(file: impl AsFd, metadata: &Metadata<'_>, chown: bool) -> io::Result<u64> {
    if chown {
        fchown(&file, Some(metadata.uid), Some(metadata.gid))?;
    }
    fchmod(&file, metadata.mode)?;
    let set = |name: &CString, value: &[u8]| fs::set_xattr(&file, name, value);
    let ignored = set_xattrs(metadata, set)?;
    futimens(&file, &metadata.mtime, &metadata.mtime)?;
    Ok(ignored)
}

/// The same for what must not be opened. Links have no mode.
fn finish_at(
    folder: &Folder,
    name: &[u8],
    metadata: &Metadata<'_>,
    mode: Option<Mode>,
) -> io::Result<u64> {
    let dir = folder.change();
    let (uid, gid) = (Some(metadata.uid), Some(metadata.gid));
    fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if let Some(mode) = mode {
        fs::chmod_at(dir, name, mode)?;
    }
    let set = |xattr: &CString, value: &[u8]| fs::set_xattr_at(dir, name, xattr, value);
    let ignored = set_xattrs(metadata, set)?;
    let time = &metadata.mtime;
    utimensat(dir, name, time, time, UtimensatFlags::NoFollowSymlink)?;
    Ok(ignored)
}

/// Attributes that the file system lacks are left out, as are those that may
/// not be on this kind of file; one that grants or restricts is not, if the
/// file system knows such.
fn set_xattrs(
    metadata: &Metadata<'_>,
    set: impl Fn(&CString, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut ignored = 0;
    for (name, value) in &metadata.xattrs {
        let optional = !name.as_bytes().starts_with(b"security.");
        match set(name, value) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => ignored += 1,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && optional => ignored += 1,
            // ext4 says so of a value that is larger than a block.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                return Err(Errno::E2BIG.into());
            }
            result => result?,
        }
    }
    Ok(ignored)
}
