//! Processes as Linux tells of them: proc(5) and pidfd_open(2).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use super::Identity;

/// When the process was started, in clock ticks since the host's boot; `None` for one
/// that has ended.
pub(super) fn start_time_of(pid: u32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in a line of `/proc/PID/stat` of a process that has not ended
/// (field 22, proc(5)). The program's name, in parentheses, may contain anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// Different after each boot of the host.
pub(crate) fn host_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// A hold on somebody else's process.
#[derive(Debug)]
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// `None` where the process is no more.
    pub(super) fn new(identity: Identity) -> Option<Self> {
        let descriptor = crate::sys::pidfd_open(identity.pid).ok()?;
        // Looked at with the descriptor held: from here on it means this one.
        if !identity.is_alive() {
            return None;
        }
        crate::sys::watch(descriptor).ok().map(Self)
    }

    pub(super) async fn ended(&self) {
        // Readable once it has ended (pidfd_open(2)).
        drop(self.0.readable().await);
    }

    pub(super) fn kill(&self) {
        // Fails only for one that has ended.
        let _: io::Result<()> = crate::sys::pidfd_kill(self.0.get_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let line = |name, state| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0")
        };
        assert_eq!(start_time(&line("sh", "S")), Some(4711));
        assert_eq!(start_time(&line("a) Z 1 (b", "R")), Some(4711));
        assert_eq!(start_time(&line("sh", "Z")), None, "it has ended");
        assert_eq!(start_time(""), None);
    }
}
