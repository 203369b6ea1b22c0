//! The plan of a container: everything its launch needs, decided and checked
//! beforehand, so that nothing is left to choose between `clone` and `execve`.
//!
//! The agent writes it, the shim carries it out. It is also kept in the
//! container's folder, from where an `exec` takes its defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use isolazi_protocol::{
    BindRecursion, CgroupLimits, ContainerId, DeviceRule, EndpointRequest, IdMapping, PortRequest,
    ProcessSpec, Propagation, Ulimit,
};

use crate::sys::caps::CapabilitySet;
use crate::sys::idmap::{IdMap, IdRange};

/// What root keeps in a container where nobody says: CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT
/// and SETFCAP.
pub(crate) const DEFAULT_CAPABILITIES: CapabilitySet =
    CapabilitySet::of(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31]);

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
    /// Its network.
    #[serde(default)]
    pub network: NetworkPlan,
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
    /// Nothing is masked or protected, and privileges can be gained.
    pub privileged: bool,
    /// What root keeps, by bits; the default ones where there are none.
    pub capabilities: Option<u64>,
    /// Devices to show besides the standard ones.
    pub devices: Vec<DevicePlan>,
    /// no_new_privs is left out.
    pub may_gain_privileges: bool,
    /// Nothing is masked or made read-only.
    pub system_paths_unconfined: bool,
    /// What a security module is told of every process.
    pub label: LabelPlan,
    /// A user namespace of its own.
    pub userns: Option<UsernsPlan>,
}

impl Settings {
    /// What root keeps.
    pub(crate) fn kept(&self) -> CapabilitySet {
        self.capabilities
            .map_or(DEFAULT_CAPABILITIES, CapabilitySet::from_bits)
    }
}

/// A device of the machine to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Its path on the machine.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// A block device, else a character one.
    pub block: bool,
    /// Its number, `st_rdev`.
    pub number: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The users of a container with a user namespace of its own. They are the namespace's
/// that the launcher is in, whatever the container's maker had called them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsernsPlan {
    /// User ids, among them 0.
    pub users: Vec<IdMapping>,
    /// Group ids, among them 0.
    pub groups: Vec<IdMapping>,
    /// Whose ids its files have on disk.
    pub stored: StoredIds,
}

/// Whose ids files have on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredIds {
    /// The container's, which are those that they are mapped to.
    Same,
    /// The container's. Mounts show those that they are mapped to, as root can have it.
    Containers,
    /// Those that the container's are mapped to; its layers are copies.
    Mapped,
}

impl UsernsPlan {
    /// Whether files on disk have the ids that the container's are mapped to.
    pub(crate) fn is_mapped_on_disk(&self) -> bool {
        self.stored == StoredIds::Mapped
    }

    /// User and group that are root in the container.
    pub(crate) fn root(&self) -> (u32, u32) {
        let of = |all: &[IdMapping]| {
            let zero = all.iter().find(|it| it.container == 0);
            zero.map_or(u32::MAX, |it| it.host)
        };
        (of(&self.users), of(&self.groups))
    }

    /// As the kernel has it: of users, and of groups.
    pub(crate) fn maps(&self) -> (IdMap, IdMap) {
        let range = |it: &IdMapping| IdRange {
            inside: it.container,
            outside: it.host,
            count: it.size,
        };
        let map = |ids: &[IdMapping]| ids.iter().map(range).collect();
        (map(&self.users), map(&self.groups))
    }
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
    /// Read-only, and what is mounted below it, too, if `recursion` does not say otherwise.
    pub read_only: bool,
    /// How it shares what is mounted below it.
    #[serde(default)]
    pub propagation: Propagation,
    /// What becomes of what is mounted below the source.
    #[serde(default)]
    pub recursion: BindRecursion,
}

/// A classic BPF program: each instruction as the eight bytes of a
/// `struct sock_filter` in native byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram(pub Vec<[u8; 8]>);

/// Where a container's network comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkPlan {
    /// A namespace with nothing but loopback.
    #[default]
    Alone,
    /// The machine's own.
    Machine,
    /// That of another container, which runs.
    Container(ContainerId),
    /// A namespace attached to bridges.
    Networks(NetworksPlan),
}

/// What a container wants of the networks that it is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworksPlan {
    /// Which, in the order of its interfaces.
    pub endpoints: Vec<EndpointRequest>,
    /// Ports to publish.
    pub ports: Vec<PortRequest>,
    /// Somebody else publishes them, who is nearer to those who come.
    pub relayed: bool,
}

/// The container's control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path beside the agent's own group, `isolazi/<id>`, or below the hierarchy's
    /// root, `/parent/<id>`.
    pub path: String,
    /// Slice of systemd's that the container's scope is to be in, where it runs the host.
    #[serde(default)]
    pub slice: Option<String>,
    /// Why the container has no scope of systemd's, although it runs the host.
    #[serde(default)]
    pub unscoped: Option<String>,
    /// `pids.max`.
    pub pids_limit: u64,
    /// What somebody asked for.
    #[serde(default)]
    pub limits: CgroupLimits,
    /// Which devices may be used.
    #[serde(default)]
    pub devices: DevicesPlan,
}

/// The devices that a container may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DevicesPlan {
    /// All of them.
    pub open: bool,
    /// Those besides the standard ones.
    pub rules: Vec<DeviceRule>,
    /// Nothing else keeps the container from the others: it can make device files.
    pub needed: bool,
}
