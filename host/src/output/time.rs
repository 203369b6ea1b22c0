//! Times, as Docker prints them.

use std::time::{Duration, SystemTime};

/// `2026-01-31 12:00:00 +0000 UTC`.
pub fn moment(then: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(then).to_string();
    text.replacen('T', " ", 1).replace('Z', " +0000 UTC")
}

/// How long ago a moment was, in words.
pub fn since(then: SystemTime) -> String {
    // A clock that was set back makes it "now".
    in_words(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// A duration in Docker's words.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Rounded, as Docker does.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, ..2) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7199, "2 hours"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (15 * 86_400, "2 weeks"),
            (400 * 86_400, "13 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
