//! Unpacks one layer in the form that overlayfs stacks; or, with [`insert`],
//! what a user copies into a container.
//!
//! ```text
//!  thread 1                                 thread 2 (the caller's)
//!  reader ─► decompress ─► hash, limits ══► archive ─► extract ─► tree ─► the folder
//!            plain.rs, zstd.rs       pipe.rs  │ headers   │ entries   │ one openat2 a folder
//!                                             └ pax.rs, sparse.rs     └ sys::fs
//! ```
//!
//! Layers come from strangers. Whatever one contains, this writes, links,
//! chmods or chowns nothing outside the folder it is given, uses bounded
//! memory, and ends with a typed error or a complete layer. It changes nothing
//! of the process (no umask, no working directory), so any thread may call it.
//! What stands in the folder after an error is the caller's to remove; see
//! [`super::layers`].

mod archive;
mod extract;
mod header;
mod name;
mod owner;
mod pax;
mod pipe;
mod plain;
mod sparse;
mod stream;
#[cfg(test)]
pub(super) mod tests;
mod tree;
mod zstd;

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::AsFd;

use isolazi_protocol::{Compression, Digest, ErrorCode};

pub use name::{NameError, ShownName};

use crate::sys::idmap::{IdMap, is_nested};
use extract::Extractor;
use plain::Plain;
use tree::Manner;

/// How much a layer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar.
    pub bytes: u64,
    /// Headers in the tar.
    pub entries: u64,
    /// Bytes of one entry's name.
    pub name: usize,
    /// Bytes of one extension header (PAX records, GNU long name).
    pub extension: u64,
    /// How many times larger than its compressed form a layer may be.
    pub ratio: u64,
    /// Plain bytes up to which any ratio is fine.
    pub ratio_counts_from: u64,
    /// Bytes of the window that a zstd frame may ask for.
    pub zstd_window: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4_000_000,
            name: 4096,
            extension: 1 << 20,
            ratio: 100,
            ratio_counts_from: 1 << 30,
            zstd_window: 128 << 20,
        }
    }
}

/// Which of overlayfs's extended attributes mark opaque folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.`: overlayfs's default, for a privileged mount.
    Trusted,
    /// `user.overlay.`: what a mount with `userxattr` reads.
    User,
}

impl Default for OverlayXattrs {
    /// As overlays are mounted where this process is.
    fn default() -> Self {
        match is_nested() {
            true => Self::User,
            false => Self::Trusted,
        }
    }
}

impl OverlayXattrs {
    const ALL_PREFIXES: [&'static [u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

    fn opaque(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
        }
    }
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What to refuse.
    pub limits: Limits,
    /// How to mark opaque folders.
    pub overlay_xattrs: OverlayXattrs,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the whole plain stream.
    pub diff_id: Digest,
    /// Bytes of the plain stream.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Extended attributes that the file system does not take, or not on that
    /// kind of file.
    pub ignored_xattrs: u64,
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The reader failed: a matter of the connection, not of the layer.
    #[error("cannot read the archive")]
    Source(#[source] io::Error),
    /// The decompressor cannot make sense of the bytes.
    #[error("the archive is not {compression} data, or corrupt")]
    Corrupt {
        /// `gzip`, `zstd` or `plain`.
        compression: &'static str,
        /// The decompressor's words.
        #[source]
        source: io::Error,
    },
    /// Not a tar.
    #[error("the archive is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Position in the plain stream.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// More than [`Limits`] allow.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// Of what there is too much.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A name that leads out of the layer, or nowhere.
    #[error("the archive has an entry with an unusable name, '{name}'")]
    Name {
        /// The name.
        name: ShownName,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// A hard link to what this layer does not have.
    #[error("the archive has a hard link '{name}' to '{target}', which is not a file in it")]
    LinkTarget {
        /// The link.
        name: ShownName,
        /// What it should be another name of.
        target: ShownName,
    },
    /// An entry has an owner, device number or attribute that Linux does not have.
    #[error("the archive's entry '{name}' has an impossible {what}")]
    Value {
        /// The entry.
        name: ShownName,
        /// Which of its values.
        what: &'static str,
    },
    /// An entry belongs to somebody whom a user namespace does not have.
    #[error(
        "the archive's entry '{name}' belongs to {what} {id}, who is not in the user namespace; have more ids mapped ({file}, or --uid-map and --gid-map), or use sudo, or --vm"
    )]
    Owner {
        /// The entry.
        name: ShownName,
        /// User or group.
        what: &'static str,
        /// Which one.
        id: u64,
        /// Where it would be given.
        file: &'static str,
    },
    /// No space left, or no quota.
    #[error("no space is left, at '{name}'; free some and try again")]
    StorageFull {
        /// The entry that did not fit.
        name: ShownName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused what an entry asks for.
    #[error("cannot {action} '{name}'")]
    Entry {
        /// What was tried.
        action: &'static str,
        /// The entry.
        name: ShownName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no thread for it.
    #[error("cannot start a thread to unpack the archive")]
    Thread(#[source] io::Error),
}

impl UnpackError {
    /// What the system said about an entry.
    fn at(name: &[u8], action: &'static str, source: io::Error) -> Self {
        let name = ShownName::from(name);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::StorageFull { name, source }
            }
            _ => Self::Entry {
                action,
                name,
                source,
            },
        }
    }

    /// The code that says on the wire whose fault it is.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::StorageFull { .. } => ErrorCode::StorageFull,
            Self::Owner { .. } => ErrorCode::Unsupported,
            Self::Entry { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::Permission
            }
            Self::Entry { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                ErrorCode::Unsupported
            }
            Self::Source(_) | Self::Thread(_) => ErrorCode::Internal,
            _ => ErrorCode::BadLayer,
        }
    }
}

/// Unpacks the layer that `reader` gives into `folder`, which must be empty
/// and nobody else's for the time, and hashes it to its end.
///
/// Needs root's powers over ownership, devices and attributes, and /proc. The
/// diff-id is for the caller to compare; nothing is written through to disk.
pub fn unpack(
    reader: impl Read + Send,
    compression: Compression,
    folder: impl AsFd,
    options: &Options,
) -> Result<Unpacked, UnpackError> {
    let plain = Plain::new(reader, compression, &options.limits);
    let extracted = pipe::with_pieces(plain, |pieces| {
        let manner = Manner::Layer(options.overlay_xattrs);
        Extractor::new(pieces, folder.as_fd(), options.limits, manner).run()
    })?;
    Ok(summary(extracted))
}

/// Unpacks an archive in the folder `below` of the root that `folder` is,
/// which others may be using: the archive's names are ordinary ones, what is
/// mounted is written to, and a folder is never exchanged for something else,
/// or the reverse. `below` has no symbolic link in it. The archive's owners are
/// those of a container with these `ids`, if any.
pub fn insert(
    reader: impl Read + Send,
    compression: Compression,
    folder: impl AsFd,
    below: &[u8],
    limits: &Limits,
    ids: Option<(IdMap, IdMap)>,
) -> Result<Unpacked, UnpackError> {
    let plain = Plain::new(reader, compression, limits);
    let extracted = pipe::with_pieces(plain, |pieces| {
        Extractor::new(pieces, folder.as_fd(), *limits, Manner::Copy)
            .below(below)
            .owned_by(ids)
            .run()
    })?;
    Ok(summary(extracted))
}

fn summary((counts, (diff_id, bytes)): (extract::Counts, (Digest, u64))) -> Unpacked {
    Unpacked {
        diff_id,
        bytes,
        entries: counts.entries,
        ignored_xattrs: counts.ignored_xattrs,
    }
}
