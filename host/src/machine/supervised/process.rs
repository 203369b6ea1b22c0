//! Processes of the machine. They outlive a supervisor that is killed, so that
//! what runs in the guest runs on, and the next supervisor adopts them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use serde::{Deserialize, Serialize};
use tokio::process::Child;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

pub(crate) use system::host_boot;
use system::{Watch, start_time_of};

/// Names one process for as long as the host is up: a process id alone is
/// given to another one in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// When it was started, in the system's own terms.
    started: u64,
}

impl Identity {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let started = start_time_of(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it is still there.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// One process of the machine, killed when this value is dropped.
#[derive(Debug)]
pub(crate) enum Process {
    /// Started by this supervisor, with `kill_on_drop`.
    Own(Child),
    /// Started by one that is no more.
    Adopted(Adopted),
}

impl Process {
    /// The process, if it still is.
    pub(crate) fn adopt(identity: Identity) -> Option<Self> {
        let watch = Watch::new(identity)?;
        Some(Self::Adopted(Adopted { identity, watch }))
    }

    /// `None` once it has ended.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Own(child) => Identity::of(child.id()?),
            Self::Adopted(adopted) => Some(adopted.identity),
        }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn is_alive(&mut self) -> bool {
        match self {
            Self::Own(child) => matches!(child.try_wait(), Ok(None)),
            Self::Adopted(adopted) => adopted.identity.is_alive(),
        }
    }

    /// Waits for its end; says what is known of it.
    pub(crate) async fn ended(&mut self) -> String {
        match self {
            Self::Own(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Adopted(adopted) => {
                adopted.watch.ended().await;
                "nobody knows how".to_owned()
            }
        }
    }

    /// Kills it and waits for its end.
    pub(crate) async fn kill(&mut self) {
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
pub(crate) struct Adopted {
    identity: Identity,
    watch: Watch,
}

impl Adopted {
    fn kill(&self) {
        self.watch.kill();
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
