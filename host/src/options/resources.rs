//! Limits of what a container may use.

use isolazi_protocol::{CgroupLimits, DeviceRate};

use super::{OptionError, size};
use crate::cli::{FixedLimitArgs, LimitArgs};

/// The limits that were asked for; the agent checks them against each other.
pub fn limits(args: &LimitArgs) -> Result<CgroupLimits, OptionError> {
    let bytes = |text: &Option<String>| text.as_deref().map(size).transpose();
    Ok(CgroupLimits {
        memory: bytes(&args.memory)?,
        memory_swap: match args.memory_swap.as_deref() {
            Some("-1") => Some(u64::MAX),
            Some(text) => Some(size(text)?),
            None => None,
        },
        memory_reservation: bytes(&args.memory_reservation)?,
        nano_cpus: args.cpus.as_deref().map(nano_cpus).transpose()?,
        cpu_quota: args.cpu_quota,
        cpu_period: args.cpu_period,
        cpu_weight: args.cpu_weight,
        cpuset_cpus: args.cpuset_cpus.clone(),
        io_weight: args.io_weight,
        cpu_shares: args.cpu_shares.filter(|it| *it != 0),
        cpuset_mems: args.cpuset_mems.clone(),
        blkio_weight: args.blkio_weight.filter(|it| *it != 0),
        ..CgroupLimits::default()
    })
}

/// The same with those that hold for good.
pub fn fixed_limits(
    args: &FixedLimitArgs,
    limits: CgroupLimits,
) -> Result<CgroupLimits, OptionError> {
    let rates = |texts: &[String], parse: Parse| -> Result<Vec<DeviceRate>, OptionError> {
        texts.iter().map(|text| rate(text, parse)).collect()
    };
    let count: Parse = |text| text.parse().ok();
    let bytes: Parse = |text| size(text).ok();
    Ok(CgroupLimits {
        memory_swappiness: match args.memory_swappiness {
            // Docker's way of saying nothing.
            None | Some(-1) => None,
            Some(percent) => Some(u64::try_from(percent).map_err(|_| {
                let text = percent.to_string();
                OptionError::form(&text, "a swappiness", "0 to 100, or -1 for the machine's")
            })?),
        },
        oom_kill_disable: args.oom_kill_disable,
        device_read_bps: rates(&args.device_read_bps, bytes)?,
        device_write_bps: rates(&args.device_write_bps, bytes)?,
        device_read_iops: rates(&args.device_read_iops, count)?,
        device_write_iops: rates(&args.device_write_iops, count)?,
        ..limits
    })
}

type Parse = fn(&str) -> Option<u64>;

/// `DEVICE:RATE`.
fn rate(text: &str, parse: Parse) -> Result<DeviceRate, OptionError> {
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(path, rate)| Some((path, parse(rate).filter(|it| *it > 0)?)));
    match parts.filter(|(path, _)| path.starts_with('/')) {
        Some((path, rate)) => Ok(DeviceRate {
            path: path.to_owned(),
            rate,
        }),
        None => Err(OptionError::form(
            text,
            "a rate of a device",
            "DEVICE:RATE, such as /dev/sda:1mb for bytes or /dev/sda:100 for operations",
        )),
    }
}

/// A decimal number of processors, in billionths.
fn nano_cpus(text: &str) -> Result<u64, OptionError> {
    let parse = || {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 || text.len() < 2 {
            // A digit alone is a number, too.
            return text.parse::<u64>().ok()?.checked_mul(1_000_000_000);
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
        whole.checked_mul(1_000_000_000)?.checked_add(fraction)
    };
    let nano = parse().filter(|nano| *nano > 0);
    nano.ok_or_else(|| OptionError::form(text, "a number of processors", "one such as 2 or 0.5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_exactly() {
        for (text, nano) in [
            ("2", 2_000_000_000),
            ("1.5", 1_500_000_000),
            ("0.01", 10_000_000),
            (".5", 500_000_000),
            ("3.", 3_000_000_000),
            ("0.000000001", 1),
        ] {
            assert_eq!(nano_cpus(text).unwrap(), nano, "{text}");
        }
        for bad in [
            "",
            ".",
            "0",
            "0.0",
            "-1",
            "1e3",
            "x",
            "1.2.3",
            "0.0000000001",
            "99999999999",
        ] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_of_a_device() {
        let args = FixedLimitArgs {
            device_read_bps: vec!["/dev/sda:1mb".to_owned()],
            device_write_iops: vec!["/dev/disk/by-path/a:b:7".to_owned()],
            memory_swappiness: Some(-1),
            ..FixedLimitArgs::default()
        };
        let limits = fixed_limits(&args, CgroupLimits::default()).unwrap();
        assert_eq!(limits.device_read_bps[0].rate, 1 << 20);
        assert_eq!(limits.device_write_iops[0].path, "/dev/disk/by-path/a:b");
        assert_eq!(limits.memory_swappiness, None);
        for bad in [
            "",
            "/dev/sda",
            "sda:1",
            "/dev/sda:",
            "/dev/sda:-1",
            "/dev/sda:0",
            "/d:1mb",
        ] {
            let args = FixedLimitArgs {
                device_read_iops: vec![bad.to_owned()],
                ..FixedLimitArgs::default()
            };
            assert!(
                fixed_limits(&args, CgroupLimits::default()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn sizes_and_no_limit_of_swap() {
        let args = LimitArgs {
            memory: Some("512m".to_owned()),
            memory_swap: Some("-1".to_owned()),
            ..LimitArgs::default()
        };
        let limits = limits(&args).unwrap();
        assert_eq!(limits.memory, Some(512 << 20));
        assert_eq!(limits.memory_swap, Some(u64::MAX));
        assert_eq!(limits.memory_reservation, None);
    }
}
