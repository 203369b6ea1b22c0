//! The plan of a container: everything its launch needs, decided and checked
//! beforehand, so that nothing is left to choose between `clone` and `execve`.
//!
//! The agent writes it, the shim carries it out. It is also kept in the
//! container's folder, from where an `exec` takes its defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use isolazi_protocol::{CgroupLimits, ContainerId, ProcessSpec, Ulimit};

/// How to launch one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Whose plan this is.
    pub id: ContainerId,
    /// UTS host name.
    pub hostname: String,
    /// Its root file system.
    pub rootfs: RootfsPlan,
    /// Files of the container's folder shown below `/etc`, writable: `hosts`,
    /// `hostname`, `resolv.conf`.
    pub etc: Vec<EtcFile>,
    /// What the user asked to have mounted, in order.
    pub binds: Vec<BindPlan>,
    /// Its first process.
    pub process: ProcessSpec,
    /// Programs to install, in this order, right before `execve`. Several are
    /// stacked: the kernel runs them all and takes the strictest answer.
    pub seccomp: Vec<SeccompProgram>,
    /// Its control group.
    pub cgroup: CgroupPlan,
    /// What else was asked for.
    #[serde(default)]
    pub settings: Settings,
}

/// Options that most containers do without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Nothing but mounts can be written to.
    pub read_only: bool,
    /// Limits of every process.
    pub ulimits: Vec<Ulimit>,
    /// Bytes that `/dev/shm` may hold.
    pub shm_size: Option<u64>,
    /// Further supplementary groups, by name or number.
    pub groups: Vec<String>,
    /// The first process is an init, and the command its child.
    pub init: bool,
    /// Paths below `/proc/sys`, and what to write there.
    pub sysctls: Vec<(String, String)>,
    /// Of every process: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Memory file systems to mount.
    pub tmpfs: Vec<TmpfsPlan>,
    /// Volumes to fill from the image where they are empty.
    pub fills: Vec<FillPlan>,
    /// no_new_privs is left out.
    pub may_gain_privileges: bool,
    /// Nothing is masked or made read-only.
    pub system_paths_unconfined: bool,
    /// What a security module is told of every process.
    pub label: LabelPlan,
}

/// How security modules are to confine processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelPlan {
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub selinux: Option<String>,
}

/// A memory file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsPlan {
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Refuse writing.
    pub read_only: bool,
    /// Allow programs.
    pub exec: bool,
    /// Honour set-user-id bits.
    pub suid: bool,
    /// Allow devices.
    pub dev: bool,
    /// Options of the file system: `size`, `mode` and so on.
    pub options: Vec<(String, String)>,
}

/// A volume to fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillPlan {
    /// The volume's folder.
    pub volume: PathBuf,
    /// Absolute path in the image of what it is filled with.
    pub source: PathBuf,
    /// A file that says, once it exists, that this container has filled its volumes.
    pub done: PathBuf,
}

/// The overlay that becomes the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsPlan {
    /// Unpacked layers, topmost first, as overlayfs wants them. Never empty.
    pub lower: Vec<PathBuf>,
    /// Takes the container's changes.
    pub upper: PathBuf,
    /// overlayfs's own; on the same file system as `upper`.
    pub work: PathBuf,
    /// An empty folder to mount at, seen only in the container's mount namespace.
    pub mount_point: PathBuf,
}

/// A file shown below `/etc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFile {
    /// Where the file is kept.
    pub source: PathBuf,
    /// Its name below `/etc`.
    pub name: String,
}

/// One `-v`, its source resolved to a path of the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindPlan {
    /// A folder or file that exists.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Read-only, recursively.
    pub read_only: bool,
}

/// A classic BPF program: each instruction as the eight bytes of a
/// `struct sock_filter` in native byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram(pub Vec<[u8; 8]>);

/// The container's control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path below the hierarchy's root: `isolazi/<id>`.
    pub path: String,
    /// `pids.max`.
    pub pids_limit: u64,
    /// What somebody asked for.
    #[serde(default)]
    pub limits: CgroupLimits,
}
