//! Processes of the machine. They outlive a supervisor that is killed, so that
//! what runs in the guest runs on, and the next supervisor adopts them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

/// Names one process for as long as the host is up: a process id alone is
/// given to another one in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// When it was started, in clock ticks since the host's boot.
    started: u64,
}

impl Identity {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = start_time(&stat)?;
        Some(Self { pid, started })
    }

    /// Whether it is still there.
    pub(super) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
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

/// One process of the machine, killed when this value is dropped.
#[derive(Debug)]
pub(super) enum Process {
    /// Started by this supervisor, with `kill_on_drop`.
    Own(Child),
    /// Started by one that is no more.
    Adopted(Adopted),
}

impl Process {
    /// The process, if it still is.
    pub(super) fn adopt(identity: Identity) -> Option<Self> {
        let descriptor = crate::sys::pidfd_open(identity.pid).ok()?;
        // Looked at with the descriptor held: from here on it means this one.
        if !identity.is_alive() {
            return None;
        }
        let descriptor = crate::sys::watch(descriptor).ok()?;
        Some(Self::Adopted(Adopted {
            identity,
            descriptor,
        }))
    }

    /// `None` once it has ended.
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Own(child) => Identity::of(child.id()?),
            Self::Adopted(adopted) => Some(adopted.identity),
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        match self {
            Self::Own(child) => matches!(child.try_wait(), Ok(None)),
            Self::Adopted(adopted) => adopted.identity.is_alive(),
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) {
        match self {
            Self::Own(child) => drop(child.wait().await),
            // Readable once it has ended (pidfd_open(2)).
            Self::Adopted(adopted) => drop(adopted.descriptor.readable().await),
        }
    }

    /// Kills it and waits for its end.
    pub(super) async fn kill(&mut self) {
        match self {
            Self::Own(child) => drop(child.start_kill()),
            Self::Adopted(adopted) => adopted.kill(),
        }
        self.ended().await;
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self::Own(child)
    }
}

/// See [`Process::Adopted`].
#[derive(Debug)]
pub(super) struct Adopted {
    identity: Identity,
    descriptor: AsyncFd<OwnedFd>,
}

impl Adopted {
    fn kill(&self) {
        // Fails only for one that has ended.
        let _: io::Result<()> = crate::sys::pidfd_kill(self.descriptor.get_ref());
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.kill();
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

    #[tokio::test]
    async fn an_adopted_process_is_waited_for_and_killed() {
        let child = std::process::Command::new("sleep").arg("1000").spawn();
        let mut child = child.unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let mut adopted = Process::adopt(identity).unwrap();
        assert!(adopted.is_alive());
        adopted.kill().await;
        assert!(!adopted.is_alive());
        child.wait().unwrap();
        assert!(Process::adopt(identity).is_none());
    }

    #[tokio::test]
    async fn another_process_with_the_same_id_is_not_adopted() {
        let own = Identity::of(std::process::id()).unwrap();
        let earlier = Identity {
            started: own.started - 1,
            ..own
        };
        assert!(!earlier.is_alive());
        assert!(Process::adopt(earlier).is_none());
    }
}
