//! The members of a tar, each with all that its headers say about it.
//!
//! ```text
//!  [x: PAX records] [L: long name] [K: long link] [header] [data, padded] …  [two zero blocks]
//!  └────────────── these describe the header that follows ┘
//! ```
//!
//! Why not `tar::Archive`: it splits PAX records at newlines, which the value
//! of a file capability may contain, reads extension headers of any size into
//! memory, and lacks the PAX forms of sparse files. Where formats leave room,
//! this follows Go's archive/tar, which images are made and tested with.

use nix::sys::time::TimeSpec;
use tar::EntryType;

use super::header::Fixed;
use super::pax::Pax;
use super::sparse::{self, SparseMap};
use super::stream::{BLOCK, Pieces, Stream};
use super::{Limits, UnpackError};

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// As in the archive: unchecked.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: TimeSpec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a member is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A file, whose data [`Archive::data`] gives.
    File(FileData),
    Directory,
    /// Its target, as it is.
    Symlink(Vec<u8>),
    /// The name of the member it is another name of.
    HardLink(Vec<u8>),
    /// Major and minor number.
    Character(u64, u64),
    Block(u64, u64),
    Fifo,
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum FileData {
    /// All of it follows: this many bytes.
    Whole(u64),
    Sparse(SparseMap),
}

/// What extension headers said about the member to come.
#[derive(Debug, Default)]
struct Announced {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Announced {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

/// Reads the members one after the other.
pub(super) struct Archive<P> {
    stream: Stream<P>,
    limits: Limits,
    headers: u64,
    data: u64,
    padding: u64,
}

impl<P: Pieces> Archive<P> {
    pub(super) fn new(pieces: P, limits: &Limits) -> Self {
        Self {
            stream: Stream::new(pieces),
            limits: *limits,
            headers: 0,
            data: 0,
            padding: 0,
        }
    }

    /// The next member; passes over what is left of the one before.
    pub(super) fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        self.stream.skip(self.data)?;
        self.data = 0;
        // Some writers end with the last file's last byte.
        let padding = std::mem::take(&mut self.padding);
        if !self.stream.skip_or_end(padding)? {
            return Ok(None);
        }
        let mut announced = Announced::default();
        while let Some(fixed) = self.header()? {
            match fixed.header().entry_type() {
                EntryType::XHeader => announced.pax = Some(self.pax(&fixed)?),
                EntryType::XGlobalHeader => drop(self.special(&fixed)?),
                EntryType::GNULongName => announced.name = Some(self.long_name(&fixed)?),
                EntryType::GNULongLink => announced.link = Some(self.long_name(&fixed)?),
                _ => return self.member(&fixed, announced).map(Some),
            }
        }
        match announced.is_empty() {
            true => Ok(None),
            false => Err(self.stream.malformed("it ends before an announced entry")),
        }
    }

    /// The next stretch of the current file's data, at most `limit` bytes;
    /// empty once all has been read.
    pub(super) fn data(&mut self, limit: u64) -> Result<&[u8], UnpackError> {
        match limit.min(self.data) {
            0 => Ok(&[]),
            limit => {
                let bytes = self.stream.some(limit)?;
                self.data -= bytes.len() as u64;
                Ok(bytes)
            }
        }
    }

    /// Reads what follows the archive's end and hands back the pieces' origin.
    pub(super) fn finish(self) -> Result<P, UnpackError> {
        self.stream.drain()
    }

    /// The next header block, or `None` at the end: two zero blocks, or the
    /// end of the stream where a header could be.
    fn header(&mut self) -> Result<Option<Fixed>, UnpackError> {
        let mut block = [0; BLOCK];
        if !self.stream.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            let more = self.stream.block(&mut block)?;
            return match more && block != [0; BLOCK] {
                true => Err(self.stream.malformed("a zero block is followed by another")),
                false => Ok(None),
            };
        }
        self.headers += 1;
        if self.headers > self.limits.entries {
            return Err(UnpackError::Limit {
                what: "entries",
                limit: self.limits.entries,
            });
        }
        Fixed::parse(&block)
            .map(Some)
            .map_err(|reason| self.stream.malformed(reason))
    }

    /// The content of an extension header.
    fn special(&mut self, fixed: &Fixed) -> Result<Vec<u8>, UnpackError> {
        let size = self.checked(fixed.size())?;
        if size > self.limits.extension {
            return Err(UnpackError::Limit {
                what: "bytes in an extension header",
                limit: self.limits.extension,
            });
        }
        let mut content = vec![0; size as usize];
        self.stream.exact(&mut content)?;
        self.stream.skip(padding(size))?;
        Ok(content)
    }

    fn pax(&mut self, fixed: &Fixed) -> Result<Pax, UnpackError> {
        let content = self.special(fixed)?;
        self.checked(Pax::parse(&content))
    }

    fn long_name(&mut self, fixed: &Fixed) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.special(fixed)?;
        let end = name.iter().position(|byte| *byte == 0);
        name.truncate(end.unwrap_or(name.len()));
        Ok(name)
    }

    fn checked<T>(&self, result: Result<T, &'static str>) -> Result<T, UnpackError> {
        result.map_err(|reason| self.stream.malformed(reason))
    }

    fn member(&mut self, fixed: &Fixed, announced: Announced) -> Result<Member, UnpackError> {
        let Announced { pax, name, link } = announced;
        let mut pax = pax.unwrap_or_default();
        let name = name
            .or_else(|| pax.sparse.name.take())
            .or_else(|| pax.path.take())
            .unwrap_or_else(|| fixed.header().path_bytes().into_owned());
        let link = link.or_else(|| pax.link.take());
        let kind = self.kind(fixed, &pax, &name, link)?;
        Ok(Member {
            kind,
            name,
            mode: self.checked(fixed.mode())?,
            uid: pax.uid.map_or_else(|| self.checked(fixed.uid()), Ok)?,
            gid: pax.gid.map_or_else(|| self.checked(fixed.gid()), Ok)?,
            mtime: pax.mtime.map_or_else(|| self.checked(fixed.mtime()), Ok)?,
            xattrs: pax.xattrs,
        })
    }

    fn kind(
        &mut self,
        fixed: &Fixed,
        pax: &Pax,
        name: &[u8],
        link: Option<Vec<u8>>,
    ) -> Result<Kind, UnpackError> {
        let target = || {
            let short = || {
                fixed
                    .header()
                    .link_name_bytes()
                    .unwrap_or_default()
                    .into_owned()
            };
            link.unwrap_or_else(short)
        };
        Ok(match fixed.header().entry_type() {
            // Before there were folder entries, a trailing slash meant one.
            EntryType::Regular if name.ends_with(b"/") => {
                self.expect_data(fixed, pax)?;
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous => Kind::File(self.file(fixed, pax)?),
            EntryType::GNUSparse => Kind::File(self.gnu_sparse(fixed, pax)?),
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(target()),
            EntryType::Link => Kind::HardLink(target()),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => {
                let (major, minor) = self.checked(fixed.device())?;
                Kind::Character(major, minor)
            }
            EntryType::Block => {
                let (major, minor) = self.checked(fixed.device())?;
                Kind::Block(major, minor)
            }
            _ => return Err(self.stream.malformed("an entry is of an unknown type")),
        })
    }

    /// Notes how much data follows. Only files have any, whatever size the
    /// headers of links and folders carry.
    fn expect_data(&mut self, fixed: &Fixed, pax: &Pax) -> Result<u64, UnpackError> {
        let size = pax.size.map_or_else(|| self.checked(fixed.size()), Ok)?;
        if size > self.limits.bytes {
            return Err(UnpackError::Limit {
                what: "bytes when unpacked (see [layers] in config.toml)",
                limit: self.limits.bytes,
            });
        }
        self.data = size;
        self.padding = padding(size);
        Ok(size)
    }

    fn file(&mut self, fixed: &Fixed, pax: &Pax) -> Result<FileData, UnpackError> {
        let size = self.expect_data(fixed, pax)?;
        if !pax.sparse.present() {
            return Ok(FileData::Whole(size));
        }
        let map = sparse::from_pax(&mut self.stream, &pax.sparse, &mut self.data)?;
        Ok(FileData::Sparse(map))
    }

    fn gnu_sparse(&mut self, fixed: &Fixed, pax: &Pax) -> Result<FileData, UnpackError> {
        let size = self.expect_data(fixed, pax)?;
        let Some(header) = fixed.header().as_gnu() else {
            return Err(self.stream.malformed("a sparse file has no GNU header"));
        };
        let map = sparse::from_gnu(&mut self.stream, header, size)?;
        Ok(FileData::Sparse(map))
    }
}

/// Bytes that fill the last block of `size` bytes.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
