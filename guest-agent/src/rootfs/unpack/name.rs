//! The names in a layer: where an entry goes, and what its name alone means.
//!
//! ```text
//!  "/usr//./bin/x"   ─► usr/bin + x      absolute names are clamped
//!  "./"              ─► the root itself
//!  "a/../../b"       ─► refused
//!  "a/.wh.b"         ─► hides a/b of the layers below        (image-spec, layer.md)
//!  "a/.wh..wh..opq"  ─► hides all that the layers below have in a
//! ```

use std::fmt;

/// Longest name of one folder or file, `NAME_MAX`.
const MAX_COMPONENT: usize = 255;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// More bytes than the limit, or than a file name may have.
    #[error("it is too long")]
    TooLong,
    /// A `..`.
    #[error("it contains '..'")]
    Parent,
    /// A NUL byte.
    #[error("it contains a NUL byte")]
    Nul,
    /// `.wh.` without a name, or of `.` or `..`.
    #[error("it is a whiteout of nothing that has a name")]
    BareWhiteout,
    /// Something inside a folder whose name is that of a whiteout.
    #[error("it is inside a whiteout")]
    InsideWhiteout,
    /// The root, as anything but a folder.
    #[error("it is the root")]
    Root,
}

/// A name from a layer as an error shows it: escaped, and not endless.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownName(Vec<u8>);

impl ShownName {
    const MAX: usize = 160;
}

impl From<&[u8]> for ShownName {
    fn from(name: &[u8]) -> Self {
        Self(name[..name.len().min(Self::MAX)].to_vec())
    }
}

impl fmt::Display for ShownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0).escape_debug())?;
        if self.0.len() == Self::MAX {
            f.write_str("…")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ShownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A place in the layer: a folder, relative to the root, and a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    path: Vec<u8>,
    name_at: usize,
}

impl Place {
    /// The place that `raw` names, or `None` for the root itself.
    #[cfg(test)]
    pub(super) fn parse(raw: &[u8], limit: usize) -> Result<Option<Self>, NameError> {
        Self::parse_below(b"", raw, limit)
    }

    /// The place that `raw` names in the folder `below`, or `None` for the
    /// root itself.
    pub(super) fn parse_below(
        below: &[u8],
        raw: &[u8],
        limit: usize,
    ) -> Result<Option<Self>, NameError> {
        if raw.is_empty() {
            return Err(NameError::Empty);
        }
        if raw.len() > limit {
            return Err(NameError::TooLong);
        }
        if raw.contains(&0) {
            return Err(NameError::Nul);
        }
        let slash = |byte: &u8| *byte == b'/';
        Self::join(below.split(slash).chain(raw.split(slash)))
    }

    fn join<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Option<Self>, NameError> {
        let mut path = Vec::new();
        let mut name_at = 0;
        for part in parts {
            match part {
                b"" | b"." => continue,
                b".." => return Err(NameError::Parent),
                long if long.len() > MAX_COMPONENT => return Err(NameError::TooLong),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            name_at = path.len();
            path.extend_from_slice(part);
        }
        Ok((!path.is_empty()).then_some(Self { path, name_at }))
    }

    /// The folder, empty for the root.
    pub(super) fn parent(&self) -> &[u8] {
        &self.path[..self.name_at.saturating_sub(1)]
    }

    /// The name in it.
    pub(super) fn name(&self) -> &[u8] {
        &self.path[self.name_at..]
    }

    /// Both.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// What the name asks for.
    pub(super) fn meaning(&self) -> Result<Meaning<'_>, NameError> {
        let mut folders = self.parent().split(|byte| *byte == b'/');
        match folders.find(|folder| folder.starts_with(WHITEOUT)) {
            Some(folder) if folder.starts_with(WHITEOUT_META) => return Ok(Meaning::Ignored),
            Some(_) => return Err(NameError::InsideWhiteout),
            None => {}
        }
        match self.name().strip_prefix(WHITEOUT) {
            None => Ok(Meaning::Content),
            Some(b"" | b"." | b"..") => Err(NameError::BareWhiteout),
            Some(_) if self.name() == OPAQUE => Ok(Meaning::Opaque),
            Some(_) if self.name().starts_with(WHITEOUT_META) => Ok(Meaning::Ignored),
            Some(hidden) => Ok(Meaning::Whiteout(hidden)),
        }
    }
}

/// What an entry is, going by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Something to make.
    Content,
    /// Hides this name in the same folder of the layers below.
    Whiteout(&'a [u8]),
    /// Hides all of the folder's content in the layers below.
    Opaque,
    /// Book-keeping of AUFS, which nothing else reads.
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<Option<Place>, NameError> {
        Place::parse(raw.as_bytes(), 4096)
    }

    #[test]
    fn names_are_clamped_below_the_root() {
        for (raw, parent, name) in [
            ("a", "", "a"),
            ("/etc/passwd", "etc", "passwd"),
            ("//a//./b/", "a", "b"),
            ("./a/b/c", "a/b", "c"),
            ("...", "", "..."),
        ] {
            let place = parse(raw).unwrap().unwrap();
            assert_eq!(place.parent(), parent.as_bytes(), "{raw}");
            assert_eq!(place.name(), name.as_bytes(), "{raw}");
        }
        for root in ["/", ".", "./", "//.//"] {
            assert_eq!(parse(root), Ok(None));
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (raw, error) in [
            ("", NameError::Empty),
            ("..", NameError::Parent),
            ("a/../b", NameError::Parent),
            ("/..", NameError::Parent),
            ("a\0b", NameError::Nul),
            (&"a".repeat(256), NameError::TooLong),
            (&"a/".repeat(2049), NameError::TooLong),
        ] {
            assert_eq!(parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn whiteouts_are_told_by_the_name() {
        let meaning = |raw: &str| {
            parse(raw)
                .unwrap()
                .unwrap()
                .meaning()
                .map(|m| format!("{m:?}"))
        };
        let content = Ok("Content".to_owned());
        assert_eq!(meaning("a/wh.b"), content);
        assert_eq!(meaning("a/b.wh.c"), content);
        assert_eq!(meaning("a/.wh..wh..opq"), Ok("Opaque".to_owned()));
        assert_eq!(meaning(".wh..wh.plnk/1.2"), Ok("Ignored".to_owned()));
        assert_eq!(meaning(".wh..wh.aufs"), Ok("Ignored".to_owned()));
        assert_eq!(meaning(".wh.a/b"), Err(NameError::InsideWhiteout));
        for bare in [".wh.", "a/.wh..", "a/.wh..."] {
            assert_eq!(meaning(bare), Err(NameError::BareWhiteout), "{bare}");
        }
        let place = parse("a/.wh.b").unwrap().unwrap();
        assert_eq!(place.meaning(), Ok(Meaning::Whiteout(b"b")));
    }

    #[test]
    fn a_shown_name_is_harmless_on_a_terminal() {
        let shown = ShownName::from(b"a\x1b[31m\n\xff".as_slice()).to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\n\u{fffd}");
        assert!(ShownName::from([b'x'; 5000].as_slice()).to_string().len() < 200);
    }
}
