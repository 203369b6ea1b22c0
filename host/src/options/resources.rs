//! Limits of what a container may use.

use isolazi_protocol::CgroupLimits;

use super::{OptionError, size};
use crate::cli::LimitArgs;

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
    })
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
