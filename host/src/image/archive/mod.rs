//! Images in tar archives: `save`, `load` and `import`.
//!
//! ```text
//!  oci-layout, index.json          the OCI's way in (image-spec, image-layout.md)
//!  manifest.json                   Docker's way in, to the same blobs
//!  blobs/sha256/<hex>              manifests, configurations, layers
//! ```
//!
//! `save` writes both ways in, as Docker does since version 25; `load` takes
//! either, also the older form whose files have other names. An archive is read
//! once, front to back, so that it may come through a pipe; what it holds is
//! hashed and set aside, and becomes part of the store only when all of it is
//! known to be there and to be what it should.

mod contents;
mod decompress;
mod import;
mod load;
mod reader;
mod save;
mod stage;

use std::io;

use super::error::ImageError;

pub(crate) use decompress::decompressed;
pub(crate) use stage::Hashed;

pub use import::{ImportOptions, import};
pub use load::{Loaded, load};
pub use save::{Selection, save};

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream that it comes from or goes to.
    #[error("cannot {action} the archive")]
    Stream {
        /// `read` or `write`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a tar, or one that is cut off or damaged.
    #[error("the archive is damaged or no tar archive: {0}")]
    NotTar(String),
    /// A tar of something else.
    #[error(
        "the archive has neither an index.json nor a manifest.json: it holds no images (a root file system becomes one with isolazi import)"
    )]
    NoImages,
    /// A name that leads out of the archive, or otherwise makes no sense.
    #[error("the archive is hostile or damaged: it has an entry '{0}'")]
    Name(String),
    /// One name for two things.
    #[error("the archive is hostile or damaged: it has '{0}' twice")]
    Twice(String),
    /// More than any archive of images has.
    #[error("the archive has more than {0} entries, which no archive of images has")]
    TooManyEntries(usize),
    /// Something that the archive's own documents name.
    #[error("the archive is incomplete: {0} is missing")]
    Missing(String),
    /// What is in it, or the store.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl ArchiveError {
    fn reading(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::NotTar(super::text::escape(&source.to_string()))
            }
            _ => Self::Stream {
                action: "read",
                source,
            },
        }
    }

    fn writing(source: io::Error) -> Self {
        Self::Stream {
            action: "write",
            source,
        }
    }

    fn malformed(what: &str, reason: impl Into<String>) -> Self {
        Self::Image(ImageError::Malformed {
            what: format!("{what} of the archive"),
            reason: reason.into(),
        })
    }
}
