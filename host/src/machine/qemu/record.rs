//! What a machine consists of, in a file: for the supervisor that comes after
//! one that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::accel::Accelerator;
use super::process::Identity;
use super::wire::Ready;
use crate::files;
use crate::machine::MachineError;

/// One boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Which boot of the host this is of.
    pub(super) host_boot: String,
    pub(super) qemu: Identity,
    /// The vsock's helper, where it has one.
    pub(super) vsock: Option<Identity>,
    pub(super) accelerator: Accelerator,
    /// Absent until the agent has answered.
    pub(super) ready: Option<Ready>,
    /// Slots of the bus that shares have had.
    pub(super) used_slots: u8,
    pub(super) shares: Vec<ShareRecord>,
}

/// A shared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShareRecord {
    pub(super) folder: PathBuf,
    pub(super) read_only: bool,
    pub(super) tag: String,
    pub(super) daemon: Identity,
}

impl Record {
    /// The record at `path`; one that is of an earlier boot of the host, or
    /// cannot be read, is as good as none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.host_boot == host_boot()).then_some(record)
    }

    /// Replaces the record at `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), MachineError> {
        // For the user alone, as it has the agent's token.
        let text = serde_json::to_vec(self);
        text.map_err(io::Error::from)
            .and_then(|text| files::replace(path, &text))
            .map_err(MachineError::io("write", path))
    }

    /// Everything that runs, QEMU last.
    pub(super) fn processes(&self) -> Vec<Identity> {
        let shares = self.shares.iter().map(|share| share.daemon);
        shares.chain(self.vsock).chain([self.qemu]).collect()
    }
}

/// Different after each boot of the host.
pub(super) fn host_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_boot_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.json");
        assert_eq!(Record::read(&path), None);
        let identity = serde_json::from_str(r#"{"pid": 1, "started": 2}"#).unwrap();
        let mut record = Record {
            host_boot: host_boot(),
            qemu: identity,
            vsock: Some(identity),
            accelerator: Accelerator::Tcg,
            ready: None,
            used_slots: 1,
            shares: Vec::new(),
        };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).as_ref(), Some(&record));
        record.host_boot = "another".to_owned();
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(Record::read(&path), None);
    }
}
