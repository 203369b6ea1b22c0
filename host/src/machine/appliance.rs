//! The appliance on disk: finding it, and trusting it only as far as its
//! manifest's checksums hold.

pub mod bundle;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use isolazi_protocol::Digest;
use isolazi_protocol::appliance::{MANIFEST, MAX_MANIFEST_BYTES, Manifest};
use sha2::{Digest as _, Sha256};

use crate::machine::{GuestArch, MachineError};
use crate::paths::Paths;

/// Names another place for the appliance.
pub const LOCATION_VARIABLE: &str = "ISOLAZI_APPLIANCE";

/// An appliance whose manifest fits this program.
#[derive(Debug, Clone)]
pub struct Appliance {
    folder: PathBuf,
    manifest: Manifest,
}

/// Where the appliance is looked for: what the environment names, the data
/// root, the user's own data folder. The last is where it is built.
pub fn folder(paths: &Paths) -> PathBuf {
    if let Some(named) = std::env::var_os(LOCATION_VARIABLE) {
        return named.into();
    }
    let own = paths.appliance();
    if own.join(MANIFEST).exists() {
        return own;
    }
    match dirs::data_dir() {
        Some(data) => data
            .join("isolazi/appliance")
            .join(GuestArch::current().name()),
        None => own,
    }
}

/// The appliance in `folder`, or the one that this program brings along, which is
/// unpacked there where it is missing, older or cut short. One that the user has put
/// somewhere is left alone ([`is_chosen`]).
pub fn provide(paths: &Paths, unpacking: impl FnOnce()) -> Result<Appliance, MachineError> {
    let folder = folder(paths);
    if let Some(bundle) = own_bundle(paths)?
        && !bundle.is_installed(&folder)
    {
        unpacking();
        bundle.install(&folder, || bundle.is_installed(&folder))?;
    }
    Appliance::open(&folder)
}

/// Unpacks once more what turned out to be damaged. Says whether there is something
/// to unpack.
pub fn restore(paths: &Paths) -> Result<bool, MachineError> {
    let Some(bundle) = own_bundle(paths)? else {
        return Ok(false);
    };
    let folder = folder(paths);
    let intact = || Appliance::open(&folder).is_ok_and(|found| found.verify().is_ok());
    bundle.install(&folder, intact)?;
    Ok(true)
}

/// Whether the appliance in use is the one that this program brings along.
pub fn is_own(paths: &Paths) -> bool {
    let own = own_bundle(paths).ok().flatten();
    own.is_some_and(|bundle| bundle.is_installed(&folder(paths)))
}

/// What this program brings along, where that is to be used.
fn own_bundle(paths: &Paths) -> Result<Option<bundle::Bundle>, MachineError> {
    match is_chosen(paths) {
        true => Ok(None),
        false => bundle::Bundle::own(),
    }
}

/// Whether the user has chosen the appliance: by the environment, or by putting one
/// into the data root.
pub fn is_chosen(paths: &Paths) -> bool {
    std::env::var_os(LOCATION_VARIABLE).is_some() || paths.appliance().join(MANIFEST).exists()
}

impl Appliance {
    /// Reads the manifest in `folder`.
    pub fn open(folder: &Path) -> Result<Self, MachineError> {
        let path = folder.join(MANIFEST);
        let bad = |reason: String| MachineError::BadAppliance {
            folder: folder.to_owned(),
            reason,
        };
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MachineError::NoAppliance(folder.to_owned()),
            _ => MachineError::io("read", &path)(error),
        })?;
        let mut text = Vec::new();
        file.take(MAX_MANIFEST_BYTES)
            .read_to_end(&mut text)
            .map_err(MachineError::io("read", &path))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
        manifest
            .check_usable(GuestArch::current().name())
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// The kernel's path, after checking its content.
    pub fn kernel(&self) -> Result<PathBuf, MachineError> {
        self.verified(self.manifest.kernel.file.as_str())
    }

    /// Release of the kernel.
    pub fn kernel_version(&self) -> &str {
        &self.manifest.kernel.version
    }

    /// What the file `name` is to be, by the manifest.
    pub fn digest(&self, name: &str) -> Result<Digest, MachineError> {
        let entry = self
            .manifest
            .entry(name)
            .map_err(|error| MachineError::BadAppliance {
                folder: self.folder.clone(),
                reason: error.to_string(),
            })?;
        Ok(entry.digest.clone())
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a program that runs beside the hypervisor, after checking its
    /// content; `None` where the appliance was built on another kind of machine, and
    /// so has none.
    pub fn helper(&self, name: &str) -> Result<Option<PathBuf>, MachineError> {
        match self.manifest.files.contains_key(name) {
            true => self.verified(name).map(Some),
            false => Ok(None),
        }
    }

    /// Checks the content of all files.
    fn verify(&self) -> Result<(), MachineError> {
        let mut names = self.manifest.files.keys();
        names.try_for_each(|name| self.verified(name.as_str()).map(drop))
    }

    /// The path of a file of the appliance, after checking its content.
    pub fn verified(&self, name: &str) -> Result<PathBuf, MachineError> {
        let path = self.folder.join(name);
        let bad = |reason: &str| MachineError::BadAppliance {
            folder: self.folder.clone(),
            reason: format!("{name} {reason}"),
        };
        let entry = self
            .manifest
            .entry(name)
            .map_err(|_| bad("is not in its manifest"))?;
        let mut file = File::open(&path).map_err(MachineError::io("read", &path))?;
        let (size, digest) = measure(&mut file).map_err(MachineError::io("read", &path))?;
        match size == entry.size && digest == entry.digest {
            true => Ok(path),
            false => Err(bad("has another content than its manifest says")),
        }
    }
}

/// Length and digest of what is left to read.
fn measure(file: &mut File) -> io::Result<(u64, Digest)> {
    const BLOCK: usize = 256 << 10;
    let (mut size, mut hash, mut block) = (0, Sha256::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok((size, Digest::from_bytes(&hash.finalize().into()))),
            count => {
                hash.update(&block[..count]);
                size += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_appliance_says_how_to_build_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = Appliance::open(folder.path()).unwrap_err();
        assert!(matches!(error, MachineError::NoAppliance(_)));
        assert!(error.to_string().contains("isolazi-image-builder"));
    }

    #[test]
    fn a_manifest_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        let error = Appliance::open(folder.path()).unwrap_err();
        assert!(matches!(error, MachineError::BadAppliance { .. }));
    }
}
