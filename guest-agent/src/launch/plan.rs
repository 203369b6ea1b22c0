//! The plan of a container: everything its launch needs, decided and checked
//! beforehand, so that nothing is left to choose between `clone` and `execve`.
//!
//! The agent writes it, the shim carries it out. It is also kept in the
//! container's folder, from where an `exec` takes its defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use isolazi_protocol::{ContainerId, ProcessSpec};

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
}
