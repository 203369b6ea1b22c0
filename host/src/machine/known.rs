//! Which containers a machine has, as far as the host knows without asking it:
//! a list in a file, left by whoever asked last.

use std::fs;
use std::io;
use std::path::Path;

use isolazi_protocol::{ContainerState, ContainerSummary};
use serde::{Deserialize, Serialize};

use super::MachineError;
use crate::files;

const FILE: &str = "containers.json";
/// Exit status of what a machine takes along when it goes.
const KILLED: i32 = 137;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    containers: Vec<ContainerSummary>,
}

/// The list in the machine's `folder`.
pub fn read(folder: &Path) -> Vec<ContainerSummary> {
    let text = fs::read(folder.join(FILE)).ok();
    // A list that cannot be read is as good as none: it is written anew.
    let known = text.and_then(|text| serde_json::from_slice::<Known>(&text).ok());
    known.unwrap_or_default().containers
}

/// The list of a machine that is stopped: nothing runs in it.
pub fn read_stopped(folder: &Path) -> Vec<ContainerSummary> {
    let mut containers = read(folder);
    for container in &mut containers {
        let (started_at, finished_at) = match container.state {
            ContainerState::Running { started_at, .. }
            | ContainerState::Paused { started_at, .. } => (Some(started_at), started_at),
            ContainerState::Restarting { finished_at, .. } => (None, finished_at),
            ContainerState::Created | ContainerState::Exited { .. } => continue,
        };
        container.health = None;
        container.state = ContainerState::Exited {
            code: KILLED,
            started_at,
            finished_at,
            error: None,
            stopped: false,
            oom_killed: false,
        };
    }
    containers
}

/// Replaces the list.
pub fn write(folder: &Path, containers: Vec<ContainerSummary>) -> Result<(), MachineError> {
    let path = folder.join(FILE);
    let text = serde_json::to_vec(&Known { containers });
    text.map_err(io::Error::from)
        .and_then(|text| files::replace(&path, &text))
        .map_err(MachineError::io("write", &path))
}

/// A container for tests.
#[cfg(test)]
pub(crate) fn sample(state: ContainerState) -> ContainerSummary {
    use isolazi_protocol::{ContainerId, Digest, NetworkMode};
    ContainerSummary {
        id: ContainerId::from_random(&[0xab; 32]),
        name: "web".to_owned(),
        image: "alpine".to_owned(),
        command: Vec::new(),
        created_at: 0,
        state,
        image_id: Digest::from_bytes(&[1; 32]),
        labels: Default::default(),
        mounts: Vec::new(),
        network: NetworkMode::None,
        size: None,
        ports: Vec::new(),
        health: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_in_a_stopped_machine() {
        let folder = tempfile::tempdir().unwrap();
        let running = ContainerState::Running {
            pid: 7,
            started_at: 8,
        };
        let list = vec![sample(running), sample(ContainerState::Created)];
        write(folder.path(), list.clone()).unwrap();
        assert_eq!(read(folder.path()), list);
        let stopped = read_stopped(folder.path());
        assert!(matches!(
            stopped[0].state,
            ContainerState::Exited { code: 137, .. }
        ));
        assert_eq!(stopped[1], list[1]);
    }

    #[test]
    fn a_list_that_is_none_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(read(folder.path()).is_empty());
    }
}
