//! Whether a container is well, by the check it was made with (Docker's
//! `HEALTHCHECK`).

use serde::{Deserialize, Serialize};

/// How to find out whether a container is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What to run.
    pub test: HealthTest,
    /// Nanoseconds between two probes; 30 seconds where it is 0.
    pub interval: u64,
    /// Nanoseconds that a probe may take; 30 seconds where it is 0.
    pub timeout: u64,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: u64,
    /// Nanoseconds between two probes within the start period, until one
    /// succeeds; 5 seconds where it is 0.
    pub start_interval: u64,
    /// So many failures in a row are unhealthy; 3 where it is 0.
    pub retries: u32,
}

/// The probe of a [`HealthCheck`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthTest {
    /// None, although the image has one.
    Disabled,
    /// A program and its arguments.
    Command(Vec<String>),
    /// A line for a shell.
    Shell {
        /// The line.
        line: String,
        /// The shell, with what makes it take a line.
        shell: Vec<String>,
    },
}

impl HealthTest {
    /// The command to run; `None` where there is no check.
    pub fn command(&self) -> Option<Vec<String>> {
        match self {
            Self::Disabled => None,
            Self::Command(command) => Some(command.clone()),
            Self::Shell { line, shell } => Some(shell.iter().chain([line]).cloned().collect()),
        }
    }
}

/// How a container is, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No probe has succeeded, and not enough have failed.
    #[default]
    Starting,
    /// The last probe succeeded, or too few have failed since.
    Healthy,
    /// Too many probes have failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How a container is, and what its last probes said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// So many probes have failed in a row.
    pub failing_streak: u32,
    /// The last probes, oldest first.
    pub log: Vec<ProbeResult>,
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began: nanoseconds since the Unix epoch.
    pub start: u64,
    /// When it ended, as above.
    pub end: u64,
    /// Its status; -1 where it could not be run or took too long.
    pub exit_code: i32,
    /// The start of what it printed, or why there is no status.
    pub output: String,
}
