//! What a container is to be, and what is known of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    CgroupLimits, ContainerId, ContainerOptions, Digest, Health, HealthStatus, NetworkMode,
    NetworkState, PublishedPort, UserNamespace,
};

/// Everything the agent needs to create a container. The host has already
/// merged the image's configuration with what the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The user's name for it; one is made up where there is none.
    pub name: Option<String>,
    /// Where its root file system comes from.
    pub image: ImageIdentity,
    /// DiffIDs of the image's layers, lowest first (image-spec `rootfs.diff_ids`).
    pub layers: Vec<Digest>,
    /// Its first process.
    pub process: ProcessSpec,
    /// UTS host name; the short id where there is none.
    pub hostname: Option<String>,
    /// Host folders and files to show inside.
    pub mounts: Vec<BindMount>,
    /// Signal that `stop` sends, by name or number (image-spec `StopSignal`); SIGTERM by default.
    pub stop_signal: Option<String>,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Which network it joins.
    pub network: NetworkMode,
    /// System-call filter.
    pub seccomp: SeccompProfile,
    /// cgroup limits.
    pub resources: Resources,
    /// Content of the container's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// What to do when its first process ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// What else was asked for.
    #[serde(default)]
    pub options: ContainerOptions,
}

/// The image a container was made from, as people named it and as content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// The reference as the user gave it.
    pub reference: String,
    /// Digest of the image's configuration: Docker's image id.
    pub id: Digest,
}

/// One process in a container (runtime-spec `process`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Command and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=VALUE` each.
    pub env: Vec<String>,
    /// Absolute working directory; created where it is missing.
    pub cwd: String,
    /// `user[:group]` by name or number, looked up in the container's own files; empty is root.
    pub user: String,
    /// A pseudo-terminal of this size for the three standard streams.
    pub terminal: Option<WindowSize>,
    /// Keep standard input open for an attached client; otherwise it is `/dev/null`.
    pub open_stdin: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for WindowSize {
    /// The size of a terminal that does not say.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

/// A further process for a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Command and arguments; never empty.
    pub args: Vec<String>,
    /// Added to the container's environment, and wins over it.
    pub env: Vec<String>,
    /// The container's working directory where there is none.
    pub cwd: Option<String>,
    /// The container's user where there is none.
    pub user: Option<String>,
    /// As in [`ProcessSpec`].
    pub terminal: Option<WindowSize>,
    /// As in [`ProcessSpec`].
    pub open_stdin: bool,
    /// All capabilities, and no system-call filter.
    pub privileged: bool,
}

/// A host folder or file shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Where it comes from, as the agent sees it.
    pub source: BindSource,
    /// What the user wrote as the source, for `inspect` and errors.
    pub host_path: String,
    /// Absolute path inside the container; created where it is missing.
    pub target: String,
    /// Refuse writing, in the mount and, if `recursion` does not say otherwise,
    /// everything below it.
    pub read_only: bool,
    /// Whether what is mounted below it later, here or there, is seen there or here.
    #[serde(default)]
    pub propagation: Propagation,
    /// What becomes of what is mounted below the source.
    #[serde(default)]
    pub recursion: BindRecursion,
}

/// How a bind mount shares what is mounted below it: mount_namespaces(7). The
/// recursive ones hold for the mounts below it, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all, recursively.
    #[default]
    RPrivate,
    /// Not at all.
    Private,
    /// In both directions, recursively.
    RShared,
    /// In both directions.
    Shared,
    /// From outside to inside, recursively.
    RSlave,
    /// From outside to inside.
    Slave,
}

impl Propagation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RPrivate,
        Self::Private,
        Self::RShared,
        Self::Shared,
        Self::RSlave,
        Self::Slave,
    ];

    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether nothing passes in either direction.
    pub fn is_private(self) -> bool {
        matches!(self, Self::RPrivate | Self::Private)
    }
}

/// What becomes of what is mounted below a bind mount's source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindRecursion {
    /// It comes along, and is as read-only as the mount itself.
    #[default]
    Enabled,
    /// It stays away.
    Disabled,
    /// It comes along, and is writable even where the mount itself is not.
    Writable,
}

/// Where the agent finds a bind mount's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindSource {
    /// A path in the agent's own file system (native Linux).
    Path(String),
    /// A folder that the machine shares with the guest over virtiofs.
    Share {
        /// The virtiofs tag.
        tag: String,
        /// Path below the share's root; empty for the root itself.
        subpath: String,
    },
}

/// Which system calls the container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompProfile {
    /// An allowlist as permissive as ordinary software needs.
    #[default]
    Default,
    /// Everything but what is critical.
    Minimal,
    /// An allowlist of what servers need.
    Strict,
    /// No filter.
    Disabled,
    /// The user's own.
    File {
        /// What the user calls it, for errors.
        name: String,
        /// JSON, as Docker has it.
        text: String,
    },
}

/// cgroup limits of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// `pids.max`: most processes and threads at once; `u64::MAX` is without limit.
    pub pids_limit: u64,
    /// What else is limited.
    #[serde(default)]
    pub limits: CgroupLimits,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            pids_limit: 2048,
            limits: CgroupLimits::default(),
        }
    }
}

/// Whether a container is started again when its first process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    No,
    /// Where its status is not 0, at most so many times; 0 is without end.
    OnFailure {
        /// Most restarts in a row.
        most: u32,
    },
    /// Always, and when its machine boots.
    Always,
    /// As `Always`, but not at boot where a user had stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a container in `state` is to be started when its machine has booted.
    pub fn brings_back(self, state: &ContainerState) -> bool {
        let stopped = matches!(state, ContainerState::Exited { stopped: true, .. });
        let ended = matches!(state, ContainerState::Exited { .. });
        match self {
            Self::No | Self::OnFailure { .. } => false,
            Self::Always => ended,
            Self::UnlessStopped => ended && !stopped,
        }
    }
}

/// Where a container is in its life (runtime-spec `state`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Made, and its process not started yet.
    Created,
    /// Its first process runs.
    Running {
        /// The process's id in the agent's PID namespace.
        pid: i32,
        /// When it started: nanoseconds since the Unix epoch.
        started_at: u64,
    },
    /// Its processes are suspended.
    Paused {
        /// As above.
        pid: i32,
        /// As above.
        started_at: u64,
    },
    /// Its first process ended, and its restart policy starts it again soon.
    Restarting {
        /// Status of the end.
        code: i32,
        /// So many restarts in a row so far.
        restarts: u32,
        /// When it ended, as above.
        finished_at: u64,
    },
    /// Its first process ended, or never could start.
    Exited {
        /// Exit status, 128+n where signal n ended it.
        code: i32,
        /// When it started, as above; `None` where it never did.
        started_at: Option<u64>,
        /// When it ended, as above.
        finished_at: u64,
        /// Why it could not start or was given up, in one line.
        error: Option<String>,
        /// A user had it stopped.
        #[serde(default)]
        stopped: bool,
        /// The kernel killed something of it, for want of memory.
        #[serde(default)]
        oom_killed: bool,
    },
}

impl ContainerState {
    /// Its first process's id in the agent's PID namespace, suspended or not.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => Some(*pid),
            Self::Created | Self::Restarting { .. } | Self::Exited { .. } => None,
        }
    }

    /// Whether something takes care of it: it runs, or is about to again.
    pub fn is_active(&self) -> bool {
        self.pid().is_some() || matches!(self, Self::Restarting { .. })
    }
}

/// How a container is kept apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces on the host's own kernel.
    Process,
    /// Namespaces inside the guest of a virtual machine.
    Vm,
}

/// One line of `ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// Full id.
    pub id: ContainerId,
    /// Unique name.
    pub name: String,
    /// Image reference as the user gave it.
    pub image: String,
    /// Command and arguments of the first process.
    pub command: Vec<String>,
    /// Nanoseconds since the Unix epoch.
    pub created_at: u64,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Digest of the image's configuration: Docker's image id.
    pub image_id: Digest,
    /// Anything its maker wanted to say.
    pub labels: BTreeMap<String, String>,
    /// What is mounted into it.
    pub mounts: Vec<SummaryMount>,
    /// Which network it joins.
    pub network: NetworkMode,
    /// Bytes on disk that it has written to its root file system, where that was asked for.
    pub size: Option<u64>,
    /// How it is, where it is checked and runs.
    #[serde(default)]
    pub health: Option<HealthStatus>,
    /// How it can be reached from outside, where it runs.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// A mount of a container, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryMount {
    /// A path on the host, or the name of a volume.
    pub source: String,
    /// Absolute path inside the container.
    pub target: String,
    /// The source is the name of a volume.
    pub volume: bool,
}

/// All that `inspect` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDetail {
    /// Full id.
    pub id: ContainerId,
    /// Unique name.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub created_at: u64,
    /// Where it is in its life.
    pub state: ContainerState,
    /// How it was made.
    pub spec: ContainerSpec,
    /// The container's folder, in the agent's file system.
    pub directory: String,
    /// How it is, where it is checked and has ever run.
    pub health: Option<Health>,
    /// What became of its network, where it runs.
    #[serde(default)]
    pub network: NetworkState,
    /// Whose its users are: what was asked for, as it came to be.
    pub userns: UserNamespace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_brings_back_what_is_to_come_back() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let exited = |stopped| ContainerState::Exited {
            code: 137,
            started_at: Some(2),
            finished_at: 3,
            error: None,
            stopped,
            oom_killed: false,
        };
        let (ended, stopped) = (exited(false), exited(true));
        assert!(Always.brings_back(&ended) && Always.brings_back(&stopped));
        assert!(UnlessStopped.brings_back(&ended) && !UnlessStopped.brings_back(&stopped));
        assert!(!No.brings_back(&ended) && !OnFailure { most: 0 }.brings_back(&ended));
        assert!(!Always.brings_back(&ContainerState::Created));
    }
}
