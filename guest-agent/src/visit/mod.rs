//! Looking into containers, and copying into and out of them.
//!
//! ```text
//!  root     a container's root as a descriptor ─┐
//!            running: its own, joined           ├─► place    a path, resolved in there
//!            ended: its overlay, mounted        │     ├─► archive   a tar of what is there
//!            nowhere                            │     └─► unpack::insert
//!                                               └─► changes   against the image: list, layer
//!  processes   of its cgroup, from /proc
//! ```
//!
//! A container may change anything below its root at any moment. So a root is
//! only ever a descriptor, every path is resolved by the kernel with that as
//! its root (openat2(2), `RESOLVE_IN_ROOT`), magic links and /proc are refused,
//! and what was looked at is what is then opened.

mod archive;
pub mod changes;
mod entry;
mod error;
mod place;
pub mod processes;
mod root;
mod walk;

pub use archive::{Packer, Pieces};
pub use error::VisitError;
pub use place::Place;
pub use root::{ContainerRoot, Purpose};

use std::io::Write;

use isolazi_protocol::{PathInfo, PathKind};
use nix::fcntl::ResolveFlag;

use crate::container::ContainerDir;
use crate::rootfs::unpack;
use walk::Walk;

/// What is at `path`, all links followed.
pub fn path_info(dir: &ContainerDir, path: &str) -> Result<Option<PathInfo>, VisitError> {
    let root = ContainerRoot::open(dir, Purpose::Read)?;
    let place = Place::find(root.fd(), path, true)?;
    Ok(place.as_ref().map(info))
}

fn info(place: &Place) -> PathInfo {
    let kind = match place.stat().st_mode & libc::S_IFMT {
        libc::S_IFREG => PathKind::File,
        libc::S_IFDIR => PathKind::Folder,
        libc::S_IFLNK => PathKind::Link,
        _ => PathKind::Other,
    };
    PathInfo {
        path: format!("/{}", String::from_utf8_lossy(place.path())),
        kind,
        size: place.stat().st_size.max(0).unsigned_abs(),
    }
}

/// Writes a tar of what is at `path` to what `begin` makes, once it is known
/// what that is.
pub fn read_path<W: Write>(
    dir: &ContainerDir,
    path: &str,
    follow: bool,
    name: &str,
    begin: impl FnOnce(PathInfo) -> W,
) -> Result<(), VisitError> {
    let root = ContainerRoot::open(dir, Purpose::Read)?;
    let place = Place::find(root.fd(), path, follow)?;
    let place = place.ok_or_else(|| VisitError::NotFound(path.to_owned()))?;
    let packer = Packer::new(begin(info(&place))).of_container(root.ids());
    let walk = Walk::new(root.fd(), ResolveFlag::empty());
    pack(packer, walk, place.path(), name.as_bytes())
}

/// Writes a tar of the whole root, without what is mounted in it.
pub fn read_root<W: Write>(dir: &ContainerDir, out: W) -> Result<(), VisitError> {
    let root = ContainerRoot::open(dir, Purpose::Bare)?;
    let walk = Walk::new(root.fd(), ResolveFlag::RESOLVE_NO_XDEV);
    pack(Packer::new(out).of_container(root.ids()), walk, b"", b"")
}

/// Packs `start` and all below it, under the name `name`; empty leaves the
/// start itself out.
fn pack<W: Write>(
    mut packer: Packer<W>,
    mut walk: Walk<'_>,
    start: &[u8],
    name: &[u8],
) -> Result<(), VisitError> {
    walk.start(start)?;
    while let Some(entry) = walk.next()? {
        let below = entry.path.strip_prefix(start).unwrap_or(&entry.path);
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let shown = match (name, below) {
            (b"", below) => below.to_vec(),
            (name, b"") => name.to_vec(),
            (name, below) => [name, b"/", below].concat(),
        };
        if !shown.is_empty() {
            packer.add(&shown, &entry)?;
        }
        let is_kernels = entry.is_kernels();
        if entry.is_folder() && !is_kernels.map_err(VisitError::io("read", &entry.path))? {
            walk.descend(&entry)?;
        }
    }
    packer.finish()
}

/// Unpacks an archive in the folder `path`.
pub fn write(
    dir: &ContainerDir,
    path: &str,
    archive: impl std::io::Read + Send,
    compression: isolazi_protocol::Compression,
) -> Result<(), VisitError> {
    let root = ContainerRoot::open(dir, Purpose::Write)?;
    let place = Place::find(root.fd(), path, true)?;
    let place = place.ok_or_else(|| VisitError::NotFound(path.to_owned()))?;
    if !place.is_folder() {
        return Err(VisitError::NotAFolder(path.to_owned()));
    }
    let insert = |ids| {
        let limits = unpack::Limits::default();
        unpack::insert(archive, compression, root.fd(), place.path(), &limits, ids)?;
        Ok(())
    };
    match root.ids() {
        Some(ids) => root::as_root_of(ids, || insert(Some(ids.maps()))),
        None => insert(None),
    }
}

#[cfg(test)]
mod tests;
