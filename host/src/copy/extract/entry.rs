//! What the headers of a tar's entry say, as far as it can be true here.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tar::{EntryType, Header};

use super::super::pax::Pax;
use super::ExtractError;

/// Largest extension header.
const MOST_EXTENSION: u64 = 1 << 20;
/// Most links on the way to a name that a hard link has.
const MOST_PARTS: usize = 4096;

/// What an entry's headers say.
pub(super) struct Entry {
    pub(super) kind: EntryType,
    /// Below the root entry; empty for that itself.
    pub(super) path: Vec<OsString>,
    pub(super) link: Option<Vec<u8>>,
    #[cfg_attr(not(unix), expect(dead_code, reason = "files have no mode"))]
    pub(super) mode: u32,
    #[cfg_attr(not(unix), expect(dead_code, reason = "files have no such owner"))]
    pub(super) owner: (u64, u64),
    pub(super) modified: SystemTime,
    pub(super) size: u64,
}

/// An extension header (pax(1)), for the entry after it.
pub(super) fn read_pax(entry: &mut tar::Entry<'_, impl Read>) -> Result<Pax, ExtractError> {
    if entry.size() > MOST_EXTENSION {
        return Err(ExtractError::Unexpected("an endless header"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(ExtractError::Read)?;
    Pax::parse(&bytes).ok_or(ExtractError::Unexpected("a malformed header"))
}

/// What a header says, where the extension before it does not.
pub(super) fn describe(header: &Header, pax: Pax) -> Result<Entry, ExtractError> {
    let read = ExtractError::Read;
    let path = match &pax.path {
        Some(path) => path.clone(),
        None => header.path_bytes().into_owned(),
    };
    let link = match pax.link {
        Some(link) => Some(link),
        None => header.link_name_bytes().map(std::borrow::Cow::into_owned),
    };
    let modified = match pax.modified {
        Some(time) => time,
        None => UNIX_EPOCH + Duration::from_secs(header.mtime().map_err(read)?.min(1 << 40)),
    };
    Ok(Entry {
        kind: header.entry_type(),
        path: parts(&path)?,
        link,
        mode: header.mode().map_err(read)?,
        owner: (header.uid().map_err(read)?, header.gid().map_err(read)?),
        modified,
        size: header.entry_size().map_err(read)?,
    })
}

/// The names that a path consists of. Each must be one on this system.
pub(super) fn parts(path: &[u8]) -> Result<Vec<OsString>, ExtractError> {
    let names = path.split(|byte| *byte == b'/');
    let names = names.filter(|name| !name.is_empty() && *name != b".");
    let parts: Vec<_> = names.map(part).collect::<Result<_, _>>()?;
    match parts.len() > MOST_PARTS {
        true => Err(ExtractError::Unexpected("an endless path")),
        false => Ok(parts),
    }
}

fn part(bytes: &[u8]) -> Result<OsString, ExtractError> {
    let impossible = ExtractError::Unexpected("a name that is none here");
    #[cfg(unix)]
    let name = <OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes.to_vec());
    #[cfg(not(unix))]
    let name = match std::str::from_utf8(bytes) {
        Ok(name) => OsString::from(name),
        Err(_) => return Err(impossible),
    };
    let mut components = Path::new(&name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !bytes.contains(&0) => Ok(name),
        _ => Err(impossible),
    }
}
