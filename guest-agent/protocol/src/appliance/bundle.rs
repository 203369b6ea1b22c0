//! An appliance in one piece, as it lies at the end of the program that installs
//! it (or in a file of its own):
//!
//! ```text
//! program │ vmlinux │ initramfs.cpio │ … │ index │ trailer
//!           └ pieces, compressed ────────┘ JSON    64 bytes
//!         └──────── payload ─────────────────────────────┘
//! ```
//!
//! A reader begins at the end: the trailer says how long the index is and what
//! its digest is, the index where the pieces lie and what theirs are. Nothing of
//! it is read before somebody asks for the appliance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FileEntry, FileName, Manifest, ManifestError};

/// Length of the trailer in bytes.
pub const TRAILER_BYTES: usize = 64;
/// An index larger than this many bytes is not one; check before reading it.
pub const MAX_INDEX_BYTES: u64 = 2 * super::MAX_MANIFEST_BYTES;

/// The last bytes of a payload, with the version of its format.
const MAGIC: [u8; 16] = *b"isolazi bundle 1";

/// The end of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes of all pieces, in front of the index.
    pub pieces: u64,
    /// Bytes of the index.
    pub index: u64,
    /// SHA-256 of the index.
    pub index_digest: [u8; 32],
}

impl Trailer {
    /// The last bytes of a payload.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.pieces.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.index_digest);
        bytes[48..].copy_from_slice(&MAGIC);
        bytes
    }

    /// The trailer that `bytes` are, or `None` where they are something else.
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let number = |from: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(field)
        };
        let mut index_digest = [0; 32];
        index_digest.copy_from_slice(&bytes[16..48]);
        (bytes[48..] == MAGIC).then(|| Self {
            pieces: number(0),
            index: number(8),
            index_digest,
        })
    }

    /// Bytes of the whole payload, or `None` where that is no possible number.
    pub fn payload(&self) -> Option<u64> {
        let rest = self.index.checked_add(TRAILER_BYTES as u64)?;
        self.pieces.checked_add(rest)
    }
}

/// Where a file of the appliance lies in the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Bytes between the payload's start and its own.
    pub offset: u64,
    /// Digest and size as it lies there: a stream of zstd (RFC 8878).
    pub packed: FileEntry,
    /// Whether the file is a program.
    pub executable: bool,
}

/// What a payload holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Index {
    manifest: Manifest,
    pieces: BTreeMap<FileName, Piece>,
}

/// An index before its halves are compared.
#[derive(Deserialize)]
struct Unchecked {
    manifest: Manifest,
    pieces: BTreeMap<FileName, Piece>,
}

impl TryFrom<Unchecked> for Index {
    type Error = ManifestError;

    fn try_from(raw: Unchecked) -> Result<Self, ManifestError> {
        Self::new(raw.manifest, raw.pieces)
    }
}

impl Index {
    /// The index of an appliance's pieces.
    ///
    /// # Errors
    /// [`ManifestError::Missing`] where a file is in only one of the two.
    pub fn new(
        manifest: Manifest,
        pieces: BTreeMap<FileName, Piece>,
    ) -> Result<Self, ManifestError> {
        if let Some(without) = manifest.files.keys().find(|&it| !pieces.contains_key(it)) {
            return Err(ManifestError::Missing(without.to_string()));
        }
        for name in pieces.keys() {
            manifest.entry(name.as_str())?;
        }
        Ok(Self { manifest, pieces })
    }

    /// The appliance's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every file: its name, what it is once unpacked, and where it lies.
    pub fn files(&self) -> impl Iterator<Item = (&FileName, &FileEntry, &Piece)> {
        let both = self.manifest.files.iter().zip(&self.pieces);
        both.map(|((name, entry), (_, piece))| (name, entry, piece))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{manifest, name};
    use super::*;

    fn pieces() -> BTreeMap<FileName, Piece> {
        let piece = |entry: &FileEntry| Piece {
            offset: 9,
            packed: entry.clone(),
            executable: false,
        };
        let manifest = manifest();
        let files = manifest.files.iter();
        files
            .map(|(name, entry)| (name.clone(), piece(entry)))
            .collect()
    }

    #[test]
    fn a_trailer_survives_a_round_trip_and_nothing_else_is_one() {
        let trailer = Trailer {
            pieces: 1 << 40,
            index: 2000,
            index_digest: [7; 32],
        };
        let mut bytes = trailer.encode();
        assert_eq!(Trailer::decode(&bytes), Some(trailer));
        assert_eq!(trailer.payload(), Some((1 << 40) + 2064));
        bytes[63] += 1;
        assert_eq!(Trailer::decode(&bytes), None);
        let endless = Trailer {
            pieces: u64::MAX,
            ..trailer
        };
        assert_eq!(endless.payload(), None);
    }

    #[test]
    fn an_index_lists_each_file_once_with_its_place() {
        let index = Index::new(manifest(), pieces()).unwrap();
        assert_eq!(index.files().count(), manifest().files.len());
        let text = serde_json::to_string(&index).unwrap();
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);
    }

    #[test]
    fn a_file_without_a_place_or_a_place_without_a_file_is_refused_by_name() {
        let mut lacking = pieces();
        lacking.remove("vmlinux");
        let refusal = Index::new(manifest(), lacking.clone()).unwrap_err();
        assert_eq!(refusal, ManifestError::Missing("vmlinux".to_owned()));
        let piece = pieces()["vmlinux"].clone();
        let mut more = pieces();
        more.insert(name("more"), piece);
        let refusal = Index::new(manifest(), more).unwrap_err();
        assert_eq!(refusal, ManifestError::Missing("more".to_owned()));
    }
}
