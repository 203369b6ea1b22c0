//! One container's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use isolazi_protocol::{
    BindMount, ContainerDetail, ContainerId, ContainerSpec, ContainerState, ContainerSummary,
    Health, HealthCheck, HealthStatus, NetworkState, SummaryMount, VolumeMount,
};

use crate::container::{health, now, userns};
use crate::launch::plan::{LaunchPlan, UsernsPlan};
use crate::sys;

/// Exit status of a container whose shim was killed, and which died with it.
const KILLED: i32 = 128 + nix::libc::SIGKILL;

/// Whoever looks whether a container is alive holds its lock for a moment much
/// shorter than this; so often it may be looked at while its lock is taken.
const A_LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 4;

/// `config.json`: how the container was made. Never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Full id.
    pub id: ContainerId,
    /// Unique name.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub created_at: u64,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// The user namespace that came of it, if it has one of its own.
    #[serde(default)]
    pub userns: Option<UsernsPlan>,
}

/// The folder of a container and the files in it.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    path: PathBuf,
}

impl ContainerDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container's output.
    pub fn log(&self) -> PathBuf {
        self.path.join("container.log")
    }

    /// What the shim itself has to complain about.
    pub fn shim_log(&self) -> PathBuf {
        self.path.join("shim.log")
    }

    /// The shim's listening socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("shim.sock")
    }

    /// How the container was made.
    pub fn record(&self) -> io::Result<Record> {
        self.read("config.json")
    }

    /// How to launch the container.
    pub fn plan(&self) -> io::Result<LaunchPlan> {
        self.read("plan.json")
    }

    /// Takes the container's lock, which says that it is alive; `None` where
    /// somebody else holds it. The lock belongs to the open file description
    /// (flock(2)), so it goes along when the descriptor is sent to the shim.
    ///
    /// # Errors
    /// `NotFound` where the container has been removed meanwhile, too: who then
    /// locks has a file that nobody else will ever see.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let lock = self.try_lock(OpenOptions::new().write(true))?;
        let is_removed = !self.path.join("config.json").exists();
        if lock.is_some() && is_removed {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(lock)
    }

    /// The same of what is left of a container, or never became one.
    pub(crate) fn lock_remains(&self) -> io::Result<Option<File>> {
        self.try_lock(OpenOptions::new().write(true))
    }

    /// The same of a folder that is no container yet; it gets a lock.
    pub(crate) fn lock_folder(&self) -> io::Result<Option<File>> {
        self.try_lock(OpenOptions::new().create(true).truncate(false).write(true))
    }

    fn try_lock(&self, how: &OpenOptions) -> io::Result<Option<File>> {
        let file = how.open(self.path.join("lock"))?;
        for _ in 0..LOOKS {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                // Somebody may just be looking; see `is_alive`.
                Err(TryLockError::WouldBlock) => std::thread::sleep(A_LOOK),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether a shim holds the container's lock.
    pub fn is_alive(&self) -> bool {
        File::open(self.path.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Where the container is in its life. A container that claims to run but
    /// has lost its shim is put right on the way.
    pub fn state(&self) -> io::Result<ContainerState> {
        let state = self.stored_state()?;
        if !state.is_active() || self.is_alive() {
            return Ok(state);
        }
        // The shim may have ended properly between the two looks.
        match self.stored_state()? {
            settled if !settled.is_active() => Ok(settled),
            lost => self.bury(&lost),
        }
    }

    /// Replaces the state. With `durable` it is on disk when this returns.
    pub fn set_state(&self, state: &ContainerState, durable: bool) -> io::Result<()> {
        self.replace("state.json", state, durable)
    }

    pub(crate) fn set_plan(&self, plan: &LaunchPlan, durable: bool) -> io::Result<()> {
        self.replace("plan.json", plan, durable)
    }

    pub(crate) fn set_record(&self, record: &Record, durable: bool) -> io::Result<()> {
        self.replace("config.json", record, durable)
    }

    /// What became of its network; nothing where it does not run.
    pub(crate) fn network(&self, state: &ContainerState) -> NetworkState {
        match state.is_active() {
            true => self.last_network().unwrap_or_default(),
            false => NetworkState::default(),
        }
    }

    /// What its network was when it last ran, if it ever did.
    pub(crate) fn last_network(&self) -> Option<NetworkState> {
        self.read("network.json").ok()
    }

    /// Tells what [`ContainerDir::last_network`] returns from what it returned before,
    /// without reading it: each has a file of its own.
    pub(crate) fn network_version(&self) -> Option<(u64, SystemTime)> {
        let metadata = fs::metadata(self.path.join("network.json")).ok()?;
        Some((metadata.ino(), metadata.modified().ok()?))
    }

    /// Keeps what its network is.
    pub(crate) fn set_network(&self, network: &NetworkState) -> io::Result<()> {
        self.replace("network.json", network, false)
    }

    /// Keeps how the container is. Not worth a wait for the disk.
    pub(crate) fn set_health(&self, health: &Health) -> io::Result<()> {
        self.replace("health.json", health, false)
    }

    /// How a container in `state` is; `None` where nobody has looked yet. As
    /// Docker has it, one that does not run is not well.
    fn health(&self, check: &HealthCheck, state: &ContainerState) -> Option<Health> {
        if !health::is_enabled(check) {
            return None;
        }
        let mut health: Health = self.read("health.json").ok()?;
        if state.pid().is_none() {
            health.status = HealthStatus::Unhealthy;
        }
        Some(health)
    }

    /// One line of a listing, about a container in `state`.
    pub fn summary(&self, state: ContainerState) -> io::Result<ContainerSummary> {
        let record = self.record()?;
        let binds = record.spec.mounts.into_iter().map(summary_mount);
        let volumes = record.spec.options.volumes.into_iter().map(summary_volume);
        let check = record.spec.options.health.as_ref();
        let health = check.filter(|_| state.pid().is_some());
        let health = health.and_then(|check| self.health(check, &state));
        let ports = self.network(&state).ports;
        Ok(ContainerSummary {
            health: health.map(|it| it.status),
            state,
            id: record.id,
            name: record.name,
            image: record.spec.image.reference,
            command: record.spec.process.args,
            created_at: record.created_at,
            image_id: record.spec.image.id,
            labels: record.spec.options.labels,
            mounts: binds.chain(volumes).collect(),
            network: record.spec.network,
            size: None,
            ports,
        })
    }

    /// Everything there is to know.
    pub fn detail(&self) -> io::Result<ContainerDetail> {
        let record = self.record()?;
        let state = self.state()?;
        let check = record.spec.options.health.as_ref();
        let health = check.and_then(|check| self.health(check, &state));
        Ok(ContainerDetail {
            userns: record
                .userns
                .as_ref()
                .map(userns::seen_outside)
                .unwrap_or_default(),
            health,
            network: self.network(&state),
            state,
            id: record.id,
            name: record.name,
            created_at: record.created_at,
            spec: record.spec,
            directory: self.path.to_string_lossy().into_owned(),
        })
    }

    fn stored_state(&self) -> io::Result<ContainerState> {
        match self.read("state.json") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ContainerState::Created),
            Err(_) if self.state_is_lost() => Ok(ContainerState::Restarting {
                code: KILLED,
                restarts: 0,
                finished_at: 0,
            }),
            other => other,
        }
    }

    /// Whether the power went when the state's first change was not on disk: then
    /// the file has its name already, and no content. So something was about to
    /// run, and is gone.
    fn state_is_lost(&self) -> bool {
        fs::metadata(self.path.join("state.json")).is_ok_and(|it| it.len() == 0)
    }

    /// Records the end of a container whose shim was killed: its processes
    /// died with the shim, its mounts with them; the cgroup is left to remove.
    fn bury(&self, lost: &ContainerState) -> io::Result<ContainerState> {
        let Some(_lock) = self.lock()? else {
            return self.stored_state();
        };
        if let Ok(plan) = self.plan() {
            // What cannot be removed now is tried again when the container is removed.
            crate::launch::cleanup(&plan);
        }
        if let Some(network) = self.last_network() {
            crate::net::forget(&network);
        }
        let (code, started_at) = match lost {
            ContainerState::Running { started_at, .. }
            | ContainerState::Paused { started_at, .. } => (KILLED, Some(*started_at)),
            ContainerState::Restarting { code, .. } => (*code, None),
            _ => (KILLED, None),
        };
        let state = ContainerState::Exited {
            code,
            started_at,
            finished_at: now(),
            error: Some("its supervising process was killed".to_owned()),
            stopped: false,
            oom_killed: false,
        };
        self.set_state(&state, true)?;
        crate::events::container(self, "die", &[("exitCode", code.to_string())]);
        Ok(state)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let bytes = fs::read(self.path.join(name))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {error}")))
    }

    fn replace<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        sys::fs::replace(&self.path.join(name), &bytes, durable)
    }
}

fn summary_mount(mount: BindMount) -> SummaryMount {
    SummaryMount {
        source: mount.host_path,
        target: mount.target,
        volume: false,
    }
}

fn summary_volume(mount: VolumeMount) -> SummaryMount {
    SummaryMount {
        source: mount.name,
        target: mount.target,
        volume: true,
    }
}
