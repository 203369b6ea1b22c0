//! What a machine consists of, in a file: for the supervisor that comes after
//! one that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::Identity;
use super::process::host_boot;
use super::wire::Ready;
use crate::files;
use crate::machine::MachineError;

/// One boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which boot of the host this is of.
    pub(crate) host_boot: String,
    pub(crate) hypervisor: Identity,
    /// The vsock's helper, where it has one.
    pub(crate) helper: Option<Identity>,
    /// What executes the guest.
    pub(crate) accelerator: String,
    /// Absent until the agent has answered.
    pub(crate) ready: Option<Ready>,
    /// How many shares were ever plugged in, where they are.
    pub(crate) used_slots: u8,
    pub(crate) shares: Vec<ShareRecord>,
}

/// A shared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShareRecord {
    pub(crate) folder: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) tag: String,
    /// Serves it, where it was plugged in.
    pub(crate) daemon: Option<Identity>,
}

impl Record {
    /// The record at `path`; one that is of an earlier boot of the host, or
    /// cannot be read, is as good as none.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.host_boot == host_boot()).then_some(record)
    }

    /// Replaces the record at `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<(), MachineError> {
        // For the user alone, as it has the agent's token.
        let text = serde_json::to_vec(self);
        text.map_err(io::Error::from)
            .and_then(|text| files::replace(path, &text))
            .map_err(MachineError::io("write", path))
    }

    /// Everything that runs, the hypervisor last.
    pub(super) fn processes(&self) -> Vec<Identity> {
        let shares = self.shares.iter().filter_map(|share| share.daemon);
        shares.chain(self.helper).chain([self.hypervisor]).collect()
    }
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
            hypervisor: identity,
            helper: Some(identity),
            accelerator: "tcg".to_owned(),
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
