//! Options for what a container may use of its machine.

use clap::Args;

/// Limits, which `run` sets and `update` changes.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitArgs {
    /// Most memory, such as 512m or 1g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most memory and swap together; -1 for no limit [default: twice the memory]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_swap: Option<String>,
    /// Memory that it keeps longest when memory is short
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Processors that it may keep busy, such as 2 or 0.5
    #[arg(short, long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<u64>,
    /// Length of a period, in microseconds [default: 100000]
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Share of the processors beside others: 1 to 10000 [default: 100]
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_weight: Option<u64>,
    /// Processors that it may run on, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Share of the block devices beside others: 1 to 10000 [default: 100]
    #[arg(long, value_name = "WEIGHT")]
    pub io_weight: Option<u64>,
    /// Share of the processors as Docker counts it: 2 to 262144, 0 for the default [default: 1024]
    #[arg(long, value_name = "SHARES")]
    pub cpu_shares: Option<u64>,
    /// Memory nodes that it may use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Share of the block devices as Docker counts it: 10 to 1000, 0 for the default [default: 500]
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u64>,
}
