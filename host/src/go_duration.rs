//! Durations as Go and Docker write them (`time.ParseDuration`).

use std::time::Duration;

/// A duration as Go writes it: `300ms`, `1.5h`, `1h15m30.918s`.
///
/// # Errors
/// When it is none, and below a millisecond, which Docker does not wait either.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
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
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
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
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
