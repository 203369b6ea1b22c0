//! What commands and the supervisor say to each other: one JSON line each way.

use std::path::PathBuf;

use isolazi_protocol::{BindSource, PortRequest};
use serde::{Deserialize, Serialize};

use super::door::Door;
use crate::machine::{MachineError, MachineState, Word};

/// A command's question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Tell me when the agent answers, and where.
    Ready,
    /// How is the machine?
    State,
    /// Share this folder or file with the guest.
    Share {
        /// Canonical.
        path: PathBuf,
        /// Refuse writing, on this side.
        read_only: bool,
        /// Who says so.
        word: Word,
    },
    /// Take these ports for a container. Its id follows on a line of its own once
    /// there is one; without it they are given up.
    Publish {
        /// All of them, or none.
        ports: Vec<PortRequest>,
        /// Who says so.
        word: Word,
    },
    /// Shut the guest down.
    Stop,
}

/// The supervisor's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Ready(Ready),
    State(MachineState),
    /// Where the guest has it.
    Shared(BindSource),
    /// The ports that were taken, the host's part of each settled.
    Published(Vec<PortRequest>),
    /// The machine has stopped, and this supervisor is about to end.
    Stopped,
    /// One line for the user.
    Failed(String),
}

impl Answer {
    /// An answer to another question than was put.
    pub(super) fn unexpected(&self) -> MachineError {
        MachineError::Failed(
            "the machine's supervisor is of another version; stop it with: isolazi vm stop"
                .to_owned(),
        )
    }
}

/// How to reach the agent of a running machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Leads to the guest.
    pub door: Door,
    /// What the agent wants to be shown.
    pub token: [u8; 32],
    /// Milliseconds from the hypervisor's start to the agent's first answer.
    pub boot_ms: u64,
}

/// One message as a line.
pub(super) fn line<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
