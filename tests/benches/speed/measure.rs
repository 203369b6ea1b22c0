//! Timing in pairs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Runs `command` to its end and says how long it took. It must succeed.
pub(crate) fn time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    let started = Instant::now();
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let elapsed = started.elapsed();
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(elapsed)
}

/// What pairs of runs took.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pairs {
    /// Measures `count` pairs after one that does not count, taking turns at
    /// who goes first. Both return seconds.
    pub(crate) fn measure(
        count: usize,
        mut ours: impl FnMut() -> Result<Duration>,
        mut theirs: impl FnMut() -> Result<Duration>,
    ) -> Result<Self> {
        let mut pairs = Self::default();
        for round in 0..=count {
            let (first, second);
            if round % 2 == 0 {
                first = ours()?;
                second = theirs()?;
            } else {
                second = theirs()?;
                first = ours()?;
            }
            if round > 0 {
                pairs.add(first, second);
            }
        }
        Ok(pairs)
    }

    /// Adds a pair that was measured elsewhere.
    pub(crate) fn add(&mut self, ours: Duration, theirs: Duration) {
        self.ours.push(ours.as_secs_f64());
        self.theirs.push(theirs.as_secs_f64());
    }

    /// Median of ours, in seconds.
    pub(crate) fn ours(&self) -> f64 {
        median(self.ours.iter().copied())
    }

    /// Median of theirs, in seconds.
    pub(crate) fn theirs(&self) -> f64 {
        median(self.theirs.iter().copied())
    }

    /// Median of the pairs' ratios.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b))
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}
