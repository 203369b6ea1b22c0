//! What health checks mean, by Docker's rules: when to probe, and what a
//! probe's outcome makes of a container. Pure; the shim does the probing.
//!
//! ```text
//!  starting ── success ──────────────► healthy ◄── success ──┐
//!     │ `retries` failures in a row,      │ as many failures  │
//!     │ those of the start period apart   ▼                   │
//!     └─────────────────────────────► unhealthy ─────────────┘
//! ```

use std::time::Duration;

use isolazi_protocol::{Health, HealthCheck, HealthStatus, HealthTest, ProbeResult, WireError};

use crate::container::checks::invalid;

/// Docker's values for what is not said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Probes that are kept, and bytes of what each printed.
const MOST_RESULTS: usize = 5;
pub(crate) const MOST_OUTPUT: usize = 4096;
/// Shortest time that may be given, as Docker has it.
const SHORTEST: Duration = Duration::from_millis(1);

/// Checks what was asked for.
pub(super) fn validate(check: &HealthCheck) -> Result<(), WireError> {
    if let Some(command) = check.test.command() {
        if command.first().is_none_or(String::is_empty) {
            return Err(invalid(
                "the health check has no command: give one with --health-cmd".to_owned(),
            ));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(invalid(
                "the command of a health check cannot contain NUL".to_owned(),
            ));
        }
    }
    let times = [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start period", check.start_period),
        ("start interval", check.start_interval),
    ];
    for (what, nanos) in times {
        if nanos != 0 && Duration::from_nanos(nanos) < SHORTEST {
            return Err(invalid(format!(
                "the {what} of a health check cannot be less than 1ms"
            )));
        }
    }
    Ok(())
}

/// Whether there is anything to probe.
pub(crate) fn is_enabled(check: &HealthCheck) -> bool {
    check.test != HealthTest::Disabled
}

fn or(nanos: u64, fallback: Duration) -> Duration {
    match nanos {
        0 => fallback,
        nanos => Duration::from_nanos(nanos),
    }
}

/// How long a probe may take.
pub(crate) fn timeout(check: &HealthCheck) -> Duration {
    or(check.timeout, TIMEOUT)
}

/// How long to wait for the next probe, so long after the start.
pub(crate) fn pause(check: &HealthCheck, status: HealthStatus, age: Duration) -> Duration {
    let is_starting = status == HealthStatus::Starting && age < start_period(check);
    match is_starting {
        true => or(check.start_interval, START_INTERVAL),
        false => or(check.interval, INTERVAL),
    }
}

fn start_period(check: &HealthCheck) -> Duration {
    Duration::from_nanos(check.start_period)
}

/// Takes a probe into account that began so long after the start. Whether the
/// container's status is another now.
pub(crate) fn judge(
    health: &mut Health,
    check: &HealthCheck,
    result: ProbeResult,
    age: Duration,
) -> bool {
    let before = health.status;
    let retries = if check.retries == 0 {
        RETRIES
    } else {
        check.retries
    };
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else if before != HealthStatus::Starting || age >= start_period(check) {
        health.failing_streak = health.failing_streak.saturating_add(1);
        if health.failing_streak >= retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    let surplus = (health.log.len() + 1).saturating_sub(MOST_RESULTS);
    health.log.drain(..surplus);
    health.log.push(result);
    health.status != before
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn check() -> HealthCheck {
        HealthCheck {
            test: HealthTest::Command(vec!["/check".to_owned()]),
            interval: 0,
            timeout: 0,
            start_period: 10 * SECOND,
            start_interval: 0,
            retries: 2,
        }
    }

    fn result(exit_code: i32) -> ProbeResult {
        ProbeResult {
            start: 1,
            end: 2,
            exit_code,
            output: String::new(),
        }
    }

    /// Probes, each with its status and its second, and what they lead to.
    fn after(check: &HealthCheck, probes: &[(i32, u64)]) -> Health {
        let mut health = Health::default();
        for (code, second) in probes {
            judge(
                &mut health,
                check,
                result(*code),
                Duration::from_secs(*second),
            );
        }
        health
    }

    #[test]
    fn failures_count_in_a_row_and_after_the_start() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        for (probes, status, streak) in [
            (&[][..], Starting, 0),
            (&[(0, 1)], Healthy, 0),
            (&[(1, 1), (1, 2), (1, 3)], Starting, 0),
            (&[(1, 9), (1, 10)], Starting, 1),
            (&[(1, 11), (-1, 12)], Unhealthy, 2),
            // Once it has been well, the start is over.
            (&[(0, 1), (1, 2)], Healthy, 1),
            (&[(0, 1), (1, 2), (2, 3)], Unhealthy, 2),
            (&[(1, 11), (0, 12), (1, 13)], Healthy, 1),
            (&[(1, 11), (1, 12), (1, 13), (0, 14)], Healthy, 0),
        ] {
            let health = after(&check(), probes);
            assert_eq!(
                (health.status, health.failing_streak),
                (status, streak),
                "{probes:?}"
            );
            assert_eq!(health.log.len(), probes.len());
        }
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let probes: Vec<_> = (0..8).map(|n| (n, 20)).collect();
        let codes: Vec<_> = after(&check(), &probes)
            .log
            .iter()
            .map(|it| it.exit_code)
            .collect();
        assert_eq!(codes, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_change_is_said_once() {
        let mut health = Health::default();
        let age = Duration::from_secs(20);
        let mut change = |code| judge(&mut health, &check(), result(code), age);
        assert!(change(0));
        assert!(!change(0));
        assert!(!change(1));
        assert!(change(1));
    }

    #[test]
    fn pauses_are_dockers() {
        use HealthStatus::{Healthy, Starting};
        let seconds = |status, age| {
            let age = Duration::from_secs(age);
            pause(&check(), status, age).as_secs()
        };
        assert_eq!(seconds(Starting, 1), 5);
        assert_eq!(seconds(Healthy, 1), 30);
        assert_eq!(seconds(Starting, 10), 30);
        assert_eq!(timeout(&check()), Duration::from_secs(30));
        let quick = HealthCheck {
            timeout: SECOND,
            ..check()
        };
        assert_eq!(timeout(&quick), Duration::from_secs(1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        validate(&check()).unwrap();
        for (test, interval) in [
            (HealthTest::Command(vec![]), 0),
            (HealthTest::Command(vec![String::new()]), 0),
            (HealthTest::Command(vec!["a\0".to_owned()]), 0),
            (HealthTest::Disabled, 999_999),
        ] {
            let broken = HealthCheck {
                test,
                interval,
                ..check()
            };
            assert!(validate(&broken).is_err(), "{broken:?}");
        }
    }
}
