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
            cpu_weight: by.cpu_weight.or(self.cpu_weight),
            cpuset_cpus: by
                .cpuset_cpus
                .as_ref()
                .or(self.cpuset_cpus.as_ref())
                .cloned(),
            io_weight: by.io_weight.or(self.io_weight),
        }
    }
}
