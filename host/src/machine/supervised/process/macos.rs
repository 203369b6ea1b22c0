//! Processes as macOS tells of them: `proc_pidinfo` and `sysctl(3)`.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Identity;

/// How often a process is looked at. Nothing is lost by hearing late of an end: whoever
/// wants the machine finds out by himself.
const LOOK: Duration = Duration::from_millis(50);

/// When the process was started, in microseconds since the epoch; `None` for one that has
/// ended.
pub(super) fn start_time_of(pid: u32) -> Option<u64> {
    crate::sys::process_start(pid)
}

/// Different after each boot of the host.
pub(crate) fn host_boot() -> String {
    crate::sys::boot_time().map_or_else(String::new, |seconds| seconds.to_string())
}

/// An eye on somebody else's process.
#[derive(Debug)]
pub(super) struct Watch(Identity);

impl Watch {
    /// `None` where the process is no more.
    pub(super) fn new(identity: Identity) -> Option<Self> {
        identity.is_alive().then_some(Self(identity))
    }

    pub(super) async fn ended(&self) {
        while self.0.is_alive() {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn kill(&self) {
        if self.0.is_alive()
            && let Ok(pid) = i32::try_from(self.0.pid)
        {
            // Fails only for one that has ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
