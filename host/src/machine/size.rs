//! How large the virtual machine is.

use std::fmt::Write as _;

use crate::options;
use crate::output::binary_size;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Less, and the guest's kernel and agent have no room.
const LEAST_MEMORY: u64 = 256 * MIB;
/// Where nothing is said: a quarter of the host's, within reason. Only what the
/// guest touches is taken.
const DEFAULT_MEMORY: std::ops::RangeInclusive<u64> = 512 * MIB..=1536 * MIB;
const LEAST_DISK: u64 = GIB;
/// What ext4 with blocks of 4 KiB can be grown to online.
const LARGEST_DISK: u64 = 16 << 40;
/// What the guest may fill where nothing is said; the file takes only what is used.
const DEFAULT_DISK: u64 = 64 * GIB;

/// What of a machine's size the user has chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineSize {
    /// Processors.
    pub cpus: Option<usize>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of its disk.
    pub disk: Option<u64>,
}

/// A size that no machine can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SizeError {
    /// As it is written.
    #[error("{0}")]
    Form(String),
    /// More processors than there are, or none.
    #[error("{0} processors are too many or too few; this host has {1}, so give 1 to {1}")]
    Processors(String, usize),
    /// The guest would not start.
    #[error("{} of memory are too little; give at least {}", binary_size(*.0), binary_size(LEAST_MEMORY))]
    Memory(u64),
    /// Nothing would fit, or the file system has an end.
    #[error("a disk of {} cannot be had; give {} to {}", binary_size(*.0), binary_size(LEAST_DISK), binary_size(LARGEST_DISK))]
    Disk(u64),
}

/// A number of processors, which this host must have.
pub fn cpus(text: &str) -> Result<usize, SizeError> {
    let host = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong = || SizeError::Processors(text.chars().take(80).collect(), host);
    let number = text.parse().map_err(|_| wrong())?;
    (1..=host)
        .contains(&number)
        .then_some(number)
        .ok_or_else(wrong)
}

/// An amount of memory in bytes, as Docker writes it.
pub fn memory(text: &str) -> Result<u64, SizeError> {
    let bytes = bytes(text)?;
    let enough = bytes >= LEAST_MEMORY;
    enough.then_some(bytes).ok_or(SizeError::Memory(bytes))
}

/// The size of a disk in bytes, as Docker writes it.
pub fn disk(text: &str) -> Result<u64, SizeError> {
    let bytes = bytes(text)?;
    let possible = (LEAST_DISK..=LARGEST_DISK).contains(&bytes);
    possible.then_some(bytes).ok_or(SizeError::Disk(bytes))
}

fn bytes(text: &str) -> Result<u64, SizeError> {
    options::size(text).map_err(|error| SizeError::Form(error.to_string()))
}

impl MachineSize {
    /// Whether nothing is chosen.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// This size, and where it says nothing the other.
    pub fn over(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.or(other.cpus),
            memory: self.memory.or(other.memory),
            disk: self.disk.or(other.disk),
        }
    }

    /// Memory in MiB, on a host that has `host` bytes of it.
    pub fn memory_mib(&self, host: u64) -> u64 {
        let default = (host / 4).clamp(*DEFAULT_MEMORY.start(), *DEFAULT_MEMORY.end());
        self.memory.unwrap_or(default) / MIB
    }

    /// Size of the disk in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.unwrap_or(DEFAULT_DISK)
    }

    /// What is chosen, for the eye.
    pub fn describe(&self) -> String {
        let mut text = match self.cpus {
            Some(cpus) => format!("{cpus} processors"),
            None => "the host's processors".to_owned(),
        };
        let memory = self.memory.map_or("memory by the host's".to_owned(), |it| {
            format!("{} of memory", binary_size(it))
        });
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            ", {memory}, {} of disk",
            binary_size(self.disk_bytes())
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_machine_can_have_are_refused() {
        assert_eq!(cpus("1"), Ok(1));
        for bad in ["0", "-1", "1.5", "100000", "", "two"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("2g"), Ok(2 * GIB));
        assert_eq!(memory("64m"), Err(SizeError::Memory(64 * MIB)));
        assert!(matches!(memory("much"), Err(SizeError::Form(_))));
        assert_eq!(disk("100g"), Ok(100 * GIB));
        assert_eq!(disk("1m"), Err(SizeError::Disk(MIB)));
        assert!(disk("17t").is_err());
    }

    #[test]
    fn what_is_not_chosen_is_within_reason() {
        let size = MachineSize::default();
        assert_eq!(size.memory_mib(1 << 40), 1536);
        assert_eq!(size.memory_mib(0), 512);
        assert_eq!(size.disk_bytes(), 64 * GIB);
        let chosen = MachineSize {
            cpus: Some(2),
            memory: Some(GIB),
            disk: None,
        };
        assert_eq!(chosen.memory_mib(1 << 40), 1024);
        assert_eq!(
            chosen.describe(),
            "2 processors, 1GiB of memory, 64GiB of disk"
        );
    }
}
