//! Options for what a container may do, and limits that only `run` sets.

use clap::Args;

/// Capabilities and devices.
#[derive(Debug, Clone, Default, Args)]
pub struct PrivilegeArgs {
    /// Give the container all capabilities and devices, and hide and filter nothing
    #[arg(long)]
    pub privileged: bool,
    /// Add a Linux capability, or ALL (can be repeated)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Do without a Linux capability, or ALL (can be repeated)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Show a device, or all devices of a folder (can be repeated)
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub device: Vec<String>,
    /// Allow the use of devices, such as 'c 1:3 rwm' (can be repeated)
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
}

/// Limits that cannot be changed later.
#[derive(Debug, Clone, Default, Args)]
pub struct FixedLimitArgs {
    /// Control group to make its own in, such as /batch
    #[arg(long, value_name = "GROUP")]
    pub cgroup_parent: Option<String>,
    /// How readily its memory is swapped out: 0 to 100 (cgroups v1)
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub memory_swappiness: Option<i64>,
    /// Have it wait for memory instead of being killed (cgroups v1)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Most bytes read of a device in a second, such as /dev/sda:1mb (can be repeated)
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_bps: Vec<String>,
    /// Most bytes written to a device in a second (can be repeated)
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_bps: Vec<String>,
    /// Most reads of a device in a second (can be repeated)
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_iops: Vec<String>,
    /// Most writes to a device in a second (can be repeated)
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_iops: Vec<String>,
}
