//! Why a limit cannot be kept, in the words of whoever asked for it.

use std::io;

use isolazi_protocol::{ErrorCode, WireError};

/// Why a limit cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The kernel has nothing that would.
    #[error("cannot limit {what}: this machine has no {lacks}; leave {option} out")]
    Missing {
        /// Of what.
        what: &'static str,
        /// Which controller, or which file of it.
        lacks: String,
        /// The user's option for it.
        option: &'static str,
    },
    /// There is no cgroup that an ordinary user might limit.
    #[error(
        "cannot limit {what}: no cgroup is yours to do it in; start isolazi in one with: systemd-run --user --scope isolazi, or leave {option} out"
    )]
    NotDelegated {
        /// Of what.
        what: &'static str,
        /// The user's option for it.
        option: &'static str,
    },
    /// The user's cgroup has not what would limit it.
    #[error(
        "cannot limit {what}: users are not given the {controller} controller; add it to Delegate= of user@.service (sudo systemctl edit user@.service), or leave {option} out"
    )]
    ControllerNotDelegated {
        /// Of what.
        what: &'static str,
        /// Which controller.
        controller: &'static str,
        /// The user's option for it.
        option: &'static str,
    },
    /// More processors than there are.
    #[error("cannot use {asked} processors: there are only {there}; use less with --cpus")]
    TooManyCpus {
        /// So many were asked for.
        asked: f64,
        /// So many there are.
        there: usize,
    },
    /// Processors that are not there.
    #[error(
        "there are no processors {asked}: this machine has {there}; use those with --cpuset-cpus"
    )]
    NoSuchCpus {
        /// Those asked for.
        asked: String,
        /// Those there are.
        there: String,
    },
    /// Memory nodes that are not there.
    #[error(
        "there are no memory nodes {asked}: this machine has {there}; use those with --cpuset-mems"
    )]
    NoSuchNodes {
        /// Those asked for.
        asked: String,
        /// Those there are.
        there: String,
    },
    /// A block device that is none.
    #[error("no such device {path} for {option}: {source}")]
    NoSuchDevice {
        /// The user's option.
        option: &'static str,
        /// What it names.
        path: String,
        /// Why it is none.
        source: io::Error,
    },
    /// Which devices a container may use is not limited, and it could make any.
    #[error(
        "cannot limit the devices of a container that may make device files: {0}; leave CAP_MKNOD out"
    )]
    Devices(String),
    /// The kernel refused.
    #[error("cannot limit {what} to {value}: {source}")]
    Refused {
        /// Of what.
        what: &'static str,
        /// To what.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl From<LimitError> for WireError {
    fn from(error: LimitError) -> Self {
        let code = match &error {
            LimitError::Missing { .. }
            | LimitError::NotDelegated { .. }
            | LimitError::ControllerNotDelegated { .. }
            | LimitError::Devices(_) => ErrorCode::Unsupported,
            LimitError::TooManyCpus { .. }
            | LimitError::NoSuchCpus { .. }
            | LimitError::NoSuchNodes { .. }
            | LimitError::NoSuchDevice { .. } => ErrorCode::InvalidArgument,
            LimitError::Refused { .. } => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}
