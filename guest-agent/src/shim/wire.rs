//! What the agent says to a shim. The shim answers as the agent answers its
//! client, so that everything after the first frame can be relayed unread.

use std::path::PathBuf;

use isolazi_protocol::{
    CgroupLimits, EndpointRequest, ExecSpec, HealthCheck, RestartPolicy, Ulimit,
};
use serde::{Deserialize, Serialize};

use crate::launch::plan::LaunchPlan;

/// First message over the socketpair, right after the lock's descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShimStart {
    /// The container's folder.
    pub directory: PathBuf,
    /// What to launch.
    pub plan: LaunchPlan,
    /// Go on with the socketpair as an attach session.
    pub attach: bool,
    /// Remove the container when it has ended.
    pub auto_remove: bool,
    /// What `stop` sends first, by number.
    pub stop_signal: i32,
    /// What to do when the container has ended.
    pub restart: RestartPolicy,
    /// How to find out whether it is well.
    pub health: Option<HealthCheck>,
    /// How many descriptors each of its processes may have where nobody says, if not as
    /// many as the shim.
    pub descriptors: Option<Ulimit>,
    /// It was stopped for this start, so that the two are a restart.
    pub restarts: bool,
}

/// First message on a connection to `shim.sock`.
#[derive(Debug, Serialize, Deserialize)]
pub enum ShimRequest {
    /// Start a further process.
    Exec {
        /// The process.
        spec: Box<ExecSpec>,
        /// Go on as an attach session.
        attach: bool,
    },
    /// Send the stop signal, after `timeout` seconds SIGKILL, and answer when
    /// the container has ended. It is not restarted.
    Stop {
        /// Seconds; with 0 SIGKILL is sent at once.
        timeout: u32,
        /// It was a user's wish, and not that the machine goes down.
        by_user: bool,
        /// It is removed afterwards; that it was stopped is not worth telling.
        for_removal: bool,
    },
    /// Go on as an attach session with the first process.
    Attach,
    /// Tell its status when the first process has ended.
    Wait,
    /// Send a signal to the first process.
    Signal {
        /// By its Linux number.
        number: i32,
    },
    /// Suspend all processes, or let them go on.
    Freeze {
        /// Suspend.
        frozen: bool,
    },
    /// Follow this restart policy from now on.
    Restart {
        /// The new one.
        policy: RestartPolicy,
    },
    /// Attach the container to a further network.
    Connect {
        /// Which, and how.
        endpoint: Box<EndpointRequest>,
    },
    /// Take it off one.
    Disconnect {
        /// The network's name.
        network: String,
    },
    /// Keep the container to these limits from now on.
    Limit {
        /// Most processes and threads.
        pids_limit: u64,
        /// What somebody asked for.
        limits: Box<CgroupLimits>,
    },
}
