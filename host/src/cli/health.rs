//! Options of a container's health check.

use std::time::Duration;

use clap::Args;

/// Options of `run` that say how to find out whether the container is well.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// Shell command that tells by its exit status whether the container is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks, such as 1m30s [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_interval: Option<Duration>,
    /// Longest time that a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_timeout: Option<Duration>,
    /// Time after the start in which failed checks do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_start_period: Option<Duration>,
    /// Time between two checks in the start period [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_start_interval: Option<Duration>,
    /// So many failed checks in a row make it unhealthy [default: 3]
    #[arg(long, value_name = "COUNT")]
    pub health_retries: Option<u32>,
    /// Leave out the image's check
    #[arg(long, conflicts_with_all = [
        "health_cmd",
        "health_interval",
        "health_timeout",
        "health_start_period",
        "health_start_interval",
        "health_retries",
    ])]
    pub no_healthcheck: bool,
}

/// A duration as Go writes it: `300ms`, `1.5h`, `1h15m30.918s`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "use a number with ms, s, m or h, such as 1m30s";
    let mut nanos = 0_u64;
    let mut rest = text;
    while !rest.is_empty() && rest != "0" {
        let unit_at = rest.find(|it: char| !it.is_ascii_digit() && it != '.');
        let (number, tail) = rest.split_at(unit_at.ok_or(FORM)?);
        let end = tail.find(|it: char| it.is_ascii_digit() || it == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(FORM),
        };
        nanos = part(number, unit)
            .and_then(|part| nanos.checked_add(part))
            .ok_or(FORM)?;
        rest = tail;
    }
    match (text.is_empty(), nanos) {
        (true, _) => Err(FORM),
        (_, 1..1_000_000) => Err("it cannot be less than 1ms"),
        _ => Ok(Duration::from_nanos(nanos)),
    }
}

/// A decimal number of units, in nanoseconds.
fn part(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok(),
    };
    let fraction = &fraction[..fraction.len().min(9)];
    let scale = 10_u64.pow(fraction.len() as u32);
    let below = u128::from(digits(fraction)?) * u128::from(unit) / u128::from(scale);
    let above = digits(whole)?.checked_mul(unit)?;
    above.checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("1.5s", 1500),
            (".5s", 500),
            ("1m30s", 90_000),
            ("1h0.5m", 3_630_000),
            ("1000us", 1),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            ".s",
            "1.2.3s",
            "-1s",
            "1d",
            "1s5",
            "999999999h",
            "1µ",
            "999us",
            "é",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
