//! Options of a container's health check.

use std::time::Duration;

use clap::Args;

use crate::go_duration;

/// Options of `run` that say how to find out whether the container is well.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// Shell command that tells by its exit status whether the container is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks, such as 1m30s [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
    pub health_interval: Option<Duration>,
    /// Longest time that a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
    pub health_timeout: Option<Duration>,
    /// Time after the start in which failed checks do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
    pub health_start_period: Option<Duration>,
    /// Time between two checks in the start period [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
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
