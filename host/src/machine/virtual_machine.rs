//! What all virtual machines have in common, whatever runs them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::{Finding, Reply, Request};
use serde::{Deserialize, Serialize};

use crate::connection::Conversation;
use crate::engine::EngineError;
use crate::machine::{Machine, MachineError};

/// How long an agent may take to start anew, and how often that is looked at.
/// The first look comes after the old one has ended.
const AGENT_PATIENCE: Duration = Duration::from_secs(30);
const AGENT_RETRY: Duration = Duration::from_millis(200);

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineState {
    /// It does not run.
    Stopped,
    /// It is coming up.
    Booting,
    /// Its agent answers.
    Running {
        /// Process id of the hypervisor, where that is a process of this host.
        pid: Option<u32>,
        /// What executes the guest, such as `kvm` or `tcg`.
        accelerator: String,
        /// Milliseconds from the hypervisor's start to the agent's first answer.
        boot_ms: u64,
        /// Folders shared with it.
        shares: Vec<PathBuf>,
    },
}

/// What is written down about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineLog {
    /// What the programs that run it complain about.
    Programs,
    /// What the guest's kernel and its first process print.
    Console,
}

/// A machine that is started and stopped.
pub trait VirtualMachine: Machine {
    /// Starts it where it does not run, and waits until its agent answers; returns
    /// how many milliseconds it took to boot.
    fn start(&self) -> BoxFuture<'_, Result<u64, MachineError>>;

    /// How it is; never starts it.
    fn state(&self) -> BoxFuture<'_, Result<MachineState, MachineError>>;

    /// Shuts it down and waits for that; tells whether it ran.
    fn stop(&self) -> BoxFuture<'_, Result<bool, MachineError>>;

    /// Stops it and removes it with all that is in it; tells whether there was one.
    fn reset(&self) -> BoxFuture<'_, Result<bool, MachineError>>;

    /// What this host has for it and what it lacks, beyond the hypervisor's program.
    /// Starts nothing.
    fn examine(&self) -> BoxFuture<'_, Vec<Finding>> {
        std::future::ready(Vec::new()).boxed()
    }

    /// The file of one of its logs, which need not exist yet.
    fn log(&self, which: MachineLog) -> Result<PathBuf, MachineError>;
}

impl dyn VirtualMachine + '_ {
    /// Whether its agent answers; never starts it.
    pub async fn is_running(&self) -> Result<bool, MachineError> {
        Ok(matches!(self.state().await?, MachineState::Running { .. }))
    }

    /// What its agent is busy with, and how much memory that takes; `None` where
    /// the machine does not run. Never starts it.
    pub async fn activity(&self) -> Result<Option<Reply>, MachineError> {
        if !self.is_running().await? {
            return Ok(None);
        }
        let answer = self.ask(&Request::Activity).await;
        answer.map(Some).map_err(MachineError::because)
    }

    /// Has its agent start anew, and waits for it. Containers run on.
    pub async fn restart_agent(&self) -> Result<(), MachineError> {
        self.ask(&Request::RestartAgent)
            .await
            .map_err(MachineError::because)?;
        let deadline = Instant::now() + AGENT_PATIENCE;
        loop {
            tokio::time::sleep(AGENT_RETRY).await;
            match self.ask(&Request::Ping).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(MachineError::because(error));
                }
                Err(_) => {}
            }
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, EngineError> {
        let dialed = self.dial().await?;
        let conversation = Conversation::open(dialed, request).await?;
        Ok(conversation.reply().await?)
    }
}
