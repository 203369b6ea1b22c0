//! The limits of a container: which make sense, whatever the machine.

use isolazi_protocol::{CgroupLimits, DeviceRate, Resources, WireError};

use crate::cgroup;
use crate::container::checks::{absolute, invalid};

/// Least memory that a container can start with, as Docker has it.
const LEAST_MEMORY: u64 = 6 << 20;
/// What the kernel takes, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: u64 = 1_000;
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;
/// v1's shares of processors, and of block devices.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const BLKIO_WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1_000;
const MOST_SWAPPINESS: u64 = 100;
/// A hundredth of a processor.
const LEAST_NANO_CPUS: u64 = 10_000_000;

/// Checks the limits, each by itself and against the others.
pub(super) fn validate(resources: &Resources) -> Result<(), WireError> {
    if resources.pids_limit == 0 {
        return Err(invalid(
            "a container needs a process: set --pids-limit to 1 at least, or to -1 for no limit"
                .to_owned(),
        ));
    }
    let limits = &resources.limits;
    memory(limits)?;
    cpu(limits)?;
    weights(limits)?;
    if let Some(cpus) = limits.cpuset_cpus.as_deref()
        && cgroup::cpu_list(cpus).is_none()
    {
        return Err(invalid(format!(
            "--cpuset-cpus '{cpus}' is not a list of processors, such as 0-2,5"
        )));
    }
    if let Some(nodes) = limits.cpuset_mems.as_deref()
        && cgroup::cpu_list(nodes).is_none()
    {
        return Err(invalid(format!(
            "--cpuset-mems '{nodes}' is not a list of memory nodes, such as 0-1"
        )));
    }
    rates(limits)
}

fn weights(limits: &CgroupLimits) -> Result<(), WireError> {
    for (option, weight, range) in [
        ("--cpu-weight", limits.cpu_weight, WEIGHTS),
        ("--io-weight", limits.io_weight, WEIGHTS),
        ("--cpu-shares", limits.cpu_shares, SHARES),
        ("--blkio-weight", limits.blkio_weight, BLKIO_WEIGHTS),
        (
            "--memory-swappiness",
            limits.memory_swappiness,
            0..=MOST_SWAPPINESS,
        ),
    ] {
        if let Some(weight) = weight.filter(|it| !range.contains(it)) {
            let (least, most) = (range.start(), range.end());
            return Err(invalid(format!(
                "{option} {weight} is not from {least} to {most}"
            )));
        }
    }
    for (one, other, both) in [
        (
            "--cpu-weight",
            "--cpu-shares",
            limits.cpu_weight.and(limits.cpu_shares),
        ),
        (
            "--io-weight",
            "--blkio-weight",
            limits.io_weight.and(limits.blkio_weight),
        ),
    ] {
        if both.is_some() {
            return Err(invalid(format!(
                "{one} and {other} are the same thing by two names: give one of them"
            )));
        }
    }
    Ok(())
}

fn rates(limits: &CgroupLimits) -> Result<(), WireError> {
    let all = [
        ("--device-read-bps", &limits.device_read_bps),
        ("--device-write-bps", &limits.device_write_bps),
        ("--device-read-iops", &limits.device_read_iops),
        ("--device-write-iops", &limits.device_write_iops),
    ];
    for (option, rates) in all {
        for DeviceRate { path, rate } in rates {
            absolute(option, path)?;
            if *rate == 0 {
                return Err(invalid(format!(
                    "{option} {path}:0 would let nothing through; give more, or leave it out"
                )));
            }
        }
    }
    Ok(())
}

fn memory(limits: &CgroupLimits) -> Result<(), WireError> {
    let least = |option: &str, bytes: Option<u64>| match bytes {
        Some(bytes) if bytes < LEAST_MEMORY => Err(invalid(format!(
            "{option} {bytes} is too little for a container: it must be 6m at least"
        ))),
        _ => Ok(()),
    };
    least("--memory", limits.memory)?;
    least("--memory-reservation", limits.memory_reservation)?;
    match (limits.memory, limits.memory_swap) {
        (None, Some(_)) => {
            return Err(invalid(
                "--memory-swap is memory and swap together: give --memory, too".to_owned(),
            ));
        }
        (Some(memory), Some(both)) if both < memory => {
            return Err(invalid(
                "--memory-swap is memory and swap together: it cannot be less than --memory; set both"
                    .to_owned(),
            ));
        }
        _ => {}
    }
    match (limits.memory, limits.memory_reservation) {
        (Some(memory), Some(reserved)) if reserved > memory => Err(invalid(
            "--memory-reservation cannot be more than --memory; set both".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn cpu(limits: &CgroupLimits) -> Result<(), WireError> {
    if limits.nano_cpus.is_some() && (limits.cpu_quota.is_some() || limits.cpu_period.is_some()) {
        return Err(invalid(
            "--cpus stands for a quota and a period: leave out --cpu-quota and --cpu-period, or --cpus"
                .to_owned(),
        ));
    }
    if limits.nano_cpus.is_some_and(|it| it < LEAST_NANO_CPUS) {
        return Err(invalid("--cpus must be 0.01 at least".to_owned()));
    }
    if let Some(period) = limits.cpu_period.filter(|it| !PERIODS.contains(it)) {
        return Err(invalid(format!(
            "--cpu-period {period} is not from 1000 to 1000000 microseconds"
        )));
    }
    if let Some(quota) = limits.cpu_quota.filter(|it| *it < LEAST_QUOTA) {
        return Err(invalid(format!(
            "--cpu-quota {quota} is too little: it must be 1000 microseconds at least"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    type Change = fn(&mut CgroupLimits);

    fn rate(path: &str, rate: u64) -> Vec<DeviceRate> {
        vec![DeviceRate {
            path: path.to_owned(),
            rate,
        }]
    }

    fn validated(change: Change) -> Result<(), String> {
        let mut resources = Resources::default();
        change(&mut resources.limits);
        validate(&resources).map_err(|error| error.message)
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let fine: [Change; 5] = [
            |_| {},
            |limits| limits.memory = Some(6 * MIB),
            |limits| {
                limits.memory = Some(10 * MIB);
                limits.memory_swap = Some(10 * MIB);
                limits.memory_reservation = Some(8 * MIB);
            },
            |limits| {
                limits.cpu_quota = Some(50_000);
                limits.cpu_period = Some(1_000_000);
            },
            |limits| {
                limits.nano_cpus = Some(LEAST_NANO_CPUS);
                limits.cpuset_cpus = Some("0,2-3".to_owned());
            },
        ];
        for (index, change) in fine.into_iter().enumerate() {
            assert_eq!(validated(change), Ok(()), "{index}");
        }
    }

    #[test]
    fn contradictions_and_what_is_out_of_range_are_named() {
        let wrong: [(Change, &str); 20] = [
            (|limits| limits.memory = Some(6 * MIB - 1), "--memory "),
            (
                |limits| limits.memory_reservation = Some(1),
                "--memory-reservation",
            ),
            (
                |limits| limits.memory_swap = Some(10 * MIB),
                "give --memory",
            ),
            (
                |limits| {
                    limits.memory = Some(10 * MIB);
                    limits.memory_swap = Some(9 * MIB);
                },
                "less than --memory",
            ),
            (
                |limits| {
                    limits.memory = Some(10 * MIB);
                    limits.memory_reservation = Some(11 * MIB);
                },
                "more than --memory",
            ),
            (
                |limits| {
                    limits.nano_cpus = Some(1_000_000_000);
                    limits.cpu_quota = Some(50_000);
                },
                "leave out --cpu-quota",
            ),
            (|limits| limits.nano_cpus = Some(1), "--cpus must be 0.01"),
            (|limits| limits.cpu_period = Some(999), "--cpu-period 999"),
            (|limits| limits.cpu_quota = Some(1), "--cpu-quota 1"),
            (|limits| limits.cpu_weight = Some(0), "--cpu-weight 0"),
            (
                |limits| limits.io_weight = Some(10_001),
                "--io-weight 10001",
            ),
            (
                |limits| limits.cpuset_cpus = Some("all".to_owned()),
                "--cpuset-cpus 'all'",
            ),
            (
                |limits| limits.cpuset_mems = Some("x".to_owned()),
                "--cpuset-mems 'x'",
            ),
            (|limits| limits.cpu_shares = Some(1), "--cpu-shares 1"),
            (|limits| limits.blkio_weight = Some(9), "--blkio-weight 9"),
            (
                |limits| limits.memory_swappiness = Some(101),
                "--memory-swappiness 101",
            ),
            (
                |limits| (limits.cpu_weight, limits.cpu_shares) = (Some(1), Some(2)),
                "--cpu-weight and --cpu-shares",
            ),
            (
                |limits| (limits.io_weight, limits.blkio_weight) = (Some(1), Some(10)),
                "--io-weight and --blkio-weight",
            ),
            (
                |limits| limits.device_read_bps = rate("disk", 1),
                "--device-read-bps 'disk'",
            ),
            (
                |limits| limits.device_write_iops = rate("/dev/x", 0),
                "--device-write-iops /dev/x:0",
            ),
        ];
        for (change, said) in wrong {
            let message = validated(change).unwrap_err();
            assert!(
                message.contains(said) && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
