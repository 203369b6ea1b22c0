//! What the builder of the appliance writes and the host reads before it boots
//! one: the manifest of the appliance's folder.
//!
//! ```text
//! <appliance>/
//! ├── manifest.json       written last: a folder without it is no appliance
//! ├── vmlinux             the kernel (named by the manifest, `Image` on aarch64)
//! ├── initramfs.cpio      /init is the agent
//! ├── data.ext4           template of the data disk, sparse
//! └── virtiofsd           helper for the hypervisor, executable
//! ```
//!
//! These are only types: reading files and hashing them is for whoever uses
//! them. A manifest that deserializes has a known format and plain file names,
//! so joining a name to the folder never leaves it.

pub mod bundle;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, GENERATION};

/// Name of the manifest's own file.
pub const MANIFEST: &str = "manifest.json";
/// Name of the initial RAM file system, a newc cpio archive.
pub const INITRAMFS: &str = "initramfs.cpio";
/// Name of the data disk's template, a raw sparse ext4 image.
pub const DATA_TEMPLATE: &str = "data.ext4";
/// Name of the helper that serves shared folders.
pub const VIRTIOFS_HELPER: &str = "virtiofsd";

/// Version of the manifest's own format.
pub const FORMAT: u32 = 1;

/// A manifest larger than this many bytes is not one; check before reading it.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// Why a manifest is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a builder of another time.
    #[error(
        "the appliance's manifest has format {found}, expected {FORMAT}: rebuild the appliance"
    )]
    Format {
        /// The format it has.
        found: u32,
    },
    /// A name that could lead out of the folder.
    #[error("'{0}' is not a file name")]
    FileName(String),
    /// A file that every appliance has.
    #[error("the appliance's manifest does not list '{0}': rebuild the appliance")]
    Missing(String),
    /// Built for another processor.
    #[error("the appliance is for {found}, this machine needs {wanted}: rebuild the appliance")]
    Arch {
        /// What it was built for.
        found: String,
        /// What is needed.
        wanted: String,
    },
    /// Its agent speaks another version of the protocol.
    #[error(
        "the appliance speaks protocol {found}, this isolazi speaks {GENERATION}: rebuild the appliance"
    )]
    Protocol {
        /// The generation its agent has.
        found: u32,
    },
}

/// The name of a file directly in the appliance's folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = ManifestError;

    fn try_from(name: String) -> Result<Self, ManifestError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let ok = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(plain)
            && name != MANIFEST;
        if ok {
            Ok(Self(name))
        } else {
            Err(ManifestError::FileName(name.chars().take(64).collect()))
        }
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to tell that a file is the one that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The kernel of an appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r` says it in the guest, for example `6.12.117-isolazi`.
    pub version: String,
    /// Which of the files it is.
    pub file: FileName,
}

/// What an appliance consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    format: u32,
    /// Processor, as [`std::env::consts::ARCH`] names it.
    pub arch: String,
    /// Version of isolazi that it was built from.
    pub version: String,
    /// [`GENERATION`] of its agent.
    pub protocol: u32,
    /// Its kernel.
    pub kernel: Kernel,
    /// Every file but the manifest.
    pub files: BTreeMap<FileName, FileEntry>,
}

/// A manifest as it is in the file, before anything is known about it.
#[derive(Deserialize)]
struct Unchecked {
    format: u32,
    arch: String,
    version: String,
    protocol: u32,
    kernel: Kernel,
    files: BTreeMap<FileName, FileEntry>,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = ManifestError;

    fn try_from(raw: Unchecked) -> Result<Self, ManifestError> {
        if raw.format != FORMAT {
            return Err(ManifestError::Format { found: raw.format });
        }
        let manifest = Self {
            protocol: raw.protocol,
            ..Self::new(raw.arch, raw.version, raw.kernel, raw.files)
        };
        for name in [manifest.kernel.file.as_str(), INITRAMFS, DATA_TEMPLATE] {
            manifest.entry(name)?;
        }
        Ok(manifest)
    }
}

impl Manifest {
    /// The manifest of an appliance with these files, which speaks this crate's
    /// [`GENERATION`].
    pub fn new(
        arch: String,
        version: String,
        kernel: Kernel,
        files: BTreeMap<FileName, FileEntry>,
    ) -> Self {
        Self {
            format: FORMAT,
            arch,
            version,
            protocol: GENERATION,
            kernel,
            files,
        }
    }

    /// What is known about the file `name`, or [`ManifestError::Missing`].
    pub fn entry(&self, name: &str) -> Result<&FileEntry, ManifestError> {
        self.files
            .get(name)
            .ok_or_else(|| ManifestError::Missing(name.to_owned()))
    }

    /// Whether this appliance can run on `arch` and talk to this isolazi.
    pub fn check_usable(&self, arch: &str) -> Result<(), ManifestError> {
        if self.arch != arch {
            return Err(ManifestError::Arch {
                found: self.arch.clone(),
                wanted: arch.to_owned(),
            });
        }
        if self.protocol != GENERATION {
            return Err(ManifestError::Protocol {
                found: self.protocol,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn name(text: &str) -> FileName {
        FileName::try_from(text.to_owned()).unwrap()
    }

    pub(super) fn manifest() -> Manifest {
        let entry = FileEntry {
            digest: Digest::from_bytes(&[7; 32]),
            size: 42,
        };
        let kernel = Kernel {
            version: "6.12.1-isolazi".to_owned(),
            file: name("vmlinux"),
        };
        let files = ["vmlinux", INITRAMFS, DATA_TEMPLATE, VIRTIOFS_HELPER];
        Manifest::new(
            "x86_64".to_owned(),
            "0.1.0".to_owned(),
            kernel,
            files.map(|file| (name(file), entry.clone())).into(),
        )
    }

    fn edited(from: &str, to: &str) -> Result<Manifest, serde_json::Error> {
        let text = serde_json::to_string(&manifest()).unwrap();
        assert!(text.contains(from), "{text}");
        serde_json::from_str(&text.replace(from, to))
    }

    #[test]
    fn survives_a_round_trip() {
        let text = serde_json::to_string_pretty(&manifest()).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [
            "../vmlinux",
            "/etc/passwd",
            "",
            ".hidden",
            "a\\\\b",
            MANIFEST,
        ] {
            assert!(edited(VIRTIOFS_HELPER, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_format_or_a_missing_file_is_refused_by_name() {
        let error = edited("\"format\":1", "\"format\":9").unwrap_err();
        assert!(error.to_string().contains("format 9"), "{error}");
        let error = edited(DATA_TEMPLATE, "other").unwrap_err();
        assert!(error.to_string().contains(DATA_TEMPLATE), "{error}");
        let error = edited("\"file\":\"vmlinux\"", "\"file\":\"Image\"").unwrap_err();
        assert!(error.to_string().contains("'Image'"), "{error}");
    }

    #[test]
    fn another_protocol_or_processor_is_readable_but_not_usable() {
        let current = format!("\"protocol\":{GENERATION}");
        let old = edited(&current, "\"protocol\":0").unwrap();
        let refusal = old.check_usable("x86_64");
        assert_eq!(refusal, Err(ManifestError::Protocol { found: 0 }));
        assert!(manifest().check_usable("x86_64").is_ok());
        assert!(manifest().check_usable("aarch64").is_err());
    }
}
