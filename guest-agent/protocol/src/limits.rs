//! What a container may use of its machine.

use serde::{Deserialize, Serialize};

/// cgroup limits of a container that it has only where somebody asked for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupLimits {
    /// Most bytes of memory.
    pub memory: Option<u64>,
    /// Most bytes of memory and swap together, `u64::MAX` for no limit; twice
    /// the memory where it is not said.
    pub memory_swap: Option<u64>,
    /// Bytes of memory that are taken from it last when memory is short.
    pub memory_reservation: Option<u64>,
    /// Processors that it may keep busy, in billionths.
    pub nano_cpus: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// Microseconds of a period; 100000 where it is not said.
    pub cpu_period: Option<u64>,
    /// Share of the processors where others want them, too: 1 to 10000, and 100
    /// where it is not said.
    pub cpu_weight: Option<u64>,
    /// The processors it may run on, as `0-2,5` (cpuset(7)).
    pub cpuset_cpus: Option<String>,
    /// Share of the block devices, as above.
    pub io_weight: Option<u64>,
    /// Share of the processors as cgroup v1 counts it: 2 to 262144, and 1024
    /// where it is not said.
    pub cpu_shares: Option<u64>,
    /// The memory nodes it may use, as `0-1` (cpuset(7)).
    pub cpuset_mems: Option<String>,
    /// Share of the block devices as cgroup v1 counts it: 10 to 1000, and 500
    /// where it is not said.
    pub blkio_weight: Option<u64>,
    /// How readily its memory is swapped out, 0 to 100. Only v1 has it.
    pub memory_swappiness: Option<u64>,
    /// It waits for memory instead of being killed. Only v1 has it.
    pub oom_kill_disable: bool,
    /// Most bytes that are read of a device in a second.
    pub device_read_bps: Vec<DeviceRate>,
    /// Most bytes that are written to a device in a second.
    pub device_write_bps: Vec<DeviceRate>,
    /// Most times that a device is read in a second.
    pub device_read_iops: Vec<DeviceRate>,
    /// Most times that a device is written to in a second.
    pub device_write_iops: Vec<DeviceRate>,
}

/// A limit of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Absolute path on the agent's machine.
    pub path: String,
    /// So much in a second.
    pub rate: u64,
}

impl CgroupLimits {
    /// These with the changes that were asked for.
    pub fn changed(&self, by: &Self) -> Self {
        Self {
            memory: by.memory.or(self.memory),
            memory_swap: by.memory_swap.or(self.memory_swap),
            memory_reservation: by.memory_reservation.or(self.memory_reservation),
            nano_cpus: by.nano_cpus.or(self.nano_cpus),
            cpu_quota: by.cpu_quota.or(self.cpu_quota),
            cpu_period: by.cpu_period.or(self.cpu_period),
            // Each of these two pairs is one thing by two names.
            cpu_weight: by
                .cpu_weight
                .or(self.cpu_weight.filter(|_| by.cpu_shares.is_none())),
            cpuset_cpus: by
                .cpuset_cpus
                .as_ref()
                .or(self.cpuset_cpus.as_ref())
                .cloned(),
            io_weight: by
                .io_weight
                .or(self.io_weight.filter(|_| by.blkio_weight.is_none())),
            cpu_shares: by
                .cpu_shares
                .or(self.cpu_shares.filter(|_| by.cpu_weight.is_none())),
            cpuset_mems: by
                .cpuset_mems
                .as_ref()
                .or(self.cpuset_mems.as_ref())
                .cloned(),
            blkio_weight: by
                .blkio_weight
                .or(self.blkio_weight.filter(|_| by.io_weight.is_none())),
            // What `update` cannot change.
            ..self.clone()
        }
    }
}
