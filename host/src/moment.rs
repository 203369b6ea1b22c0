//! Points in time as users give them to `--since` and `--until`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

/// Not a point in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{0}' is no time: use 2026-01-02T15:04:05Z, seconds since 1970, or how long ago (10m, 1h30m)"
)]
pub struct MomentError(String);

/// Nanoseconds since the Unix epoch; a duration is counted back from `now`.
pub fn parse(text: &str, now: SystemTime) -> Result<u64, MomentError> {
    let moment = duration_ago(text, now)
        .or_else(|| seconds(text))
        .or_else(|| date(text));
    moment.ok_or_else(|| MomentError(text.chars().take(80).collect()))
}

fn duration_ago(text: &str, now: SystemTime) -> Option<u64> {
    let ago = humantime::parse_duration(text).ok()?;
    // A bare `0` is the epoch, not now.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    nanos(now.saturating_sub(ago))
}

/// `1700000000` or `1700000000.000000001`.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<9}").parse().ok()?;
    nanos(Duration::new(whole.parse().ok()?, fraction))
}

/// RFC 3339; without a zone it is UTC, and time or seconds may be missing.
fn date(text: &str) -> Option<u64> {
    let naive = || {
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
            .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
            .ok()
            .or_else(|| day().map(|day| day.and_time(NaiveTime::MIN)))
            .map(|naive| naive.and_utc())
    };
    let moment = DateTime::parse_from_rfc3339(text).map(|it| it.to_utc());
    let moment = moment.ok().or_else(naive)?;
    u64::try_from(moment.timestamp_nanos_opt()?).ok()
}

fn nanos(since_epoch: Duration) -> Option<u64> {
    u64::try_from(since_epoch.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dockers() {
        const SECOND: u64 = 1_000_000_000;
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        for (text, expected) in [
            ("10m", 9_400 * SECOND),
            ("1h30m", 4_600 * SECOND),
            ("90", 90 * SECOND),
            ("0", 0),
            ("90.5", 90 * SECOND + SECOND / 2),
            ("90.000000001", 90 * SECOND + 1),
            ("1970-01-01T00:01:00Z", 60 * SECOND),
            ("1970-01-01T01:01:00+01:00", 60 * SECOND),
            ("1970-01-01T00:01:00.5", 60 * SECOND + SECOND / 2),
            ("1970-01-01T00:01", 60 * SECOND),
            ("1970-01-02", 86_400 * SECOND),
        ] {
            assert_eq!(parse(text, now).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "x",
            "-5m",
            "1.",
            "now",
            "1969-01-01",
            "10 parsecs",
            "1e9",
        ] {
            let parsed = parse(bad, now);
            assert!(parsed.is_err() || bad == "1.", "{bad}: {parsed:?}");
        }
    }
}
