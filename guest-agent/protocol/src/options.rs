//! What a user may ask of a container beyond its first process, and volumes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{HealthCheck, NetworkOptions, Privileges, SecurityOptions, UserNamespace};

/// Options of a container. What is not said is as if it were not there, so that
/// containers made before an option existed can still be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    /// Anything its maker wanted to say; the image's own are merged in.
    pub labels: BTreeMap<String, String>,
    /// Anything its maker wanted to tell the runtime (runtime-spec `annotations`).
    pub annotations: BTreeMap<String, String>,
    /// Seconds that `stop` waits before SIGKILL where it is not told.
    pub stop_timeout: Option<u32>,
    /// The root file system cannot be written to.
    pub read_only: bool,
    /// Further lines of `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// What was asked for about name resolution; `resolv_conf` already has it.
    pub dns: Dns,
    /// Resource limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes that `/dev/shm` may hold; 64 MiB where there is none.
    pub shm_size: Option<u64>,
    /// Supplementary groups by name or number, looked up in the container's own files.
    pub groups: Vec<String>,
    /// A small init is process 1; it reaps orphans and passes signals on.
    pub init: bool,
    /// Kernel parameters of the container's namespaces, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Adjusts how soon the container is killed when memory is short: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Volumes to mount.
    pub volumes: Vec<VolumeMount>,
    /// Memory file systems to mount.
    pub tmpfs: Vec<TmpfsMount>,
    /// How to find out whether it is well.
    pub health: Option<HealthCheck>,
    /// Capabilities and devices.
    pub privileges: Privileges,
    /// The control group that its own lies in: below the hierarchy's root where it
    /// starts with a slash, else beside the agent's.
    pub cgroup_parent: Option<String>,
    /// How it is confined, beside its system calls.
    pub security: SecurityOptions,
    /// How it is in its network.
    pub network: NetworkOptions,
    /// Which users it has.
    pub userns: UserNamespace,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// Its address; that of the host itself where there is none.
    pub address: Option<IpAddr>,
}

/// What was asked for about name resolution (resolv.conf(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// A resource limit of a process (getrlimit(2)); `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Of what.
    pub limit: Limit,
    /// What is enforced.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// Names all variants once: the type, its names, and its parser.
macro_rules! limits {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What a [`Ulimit`] limits, by Docker's names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Limit {
            $($(#[$doc])* $variant),*
        }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Docker's name for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

limits! {
    /// Bytes of address space.
    As = "as",
    /// Bytes of a core file.
    Core = "core",
    /// Seconds of processor time.
    Cpu = "cpu",
    /// Bytes of data segment.
    Data = "data",
    /// Bytes of a file.
    Fsize = "fsize",
    /// File locks.
    Locks = "locks",
    /// Bytes of locked memory.
    Memlock = "memlock",
    /// Bytes of POSIX message queues.
    Msgqueue = "msgqueue",
    /// Ceiling of the nice value.
    Nice = "nice",
    /// Open files.
    Nofile = "nofile",
    /// Processes of the user.
    Nproc = "nproc",
    /// Bytes of resident memory.
    Rss = "rss",
    /// Ceiling of the real-time priority.
    Rtprio = "rtprio",
    /// Microseconds of real-time processor time without a pause.
    Rttime = "rttime",
    /// Queued signals of the user.
    Sigpending = "sigpending",
    /// Bytes of stack.
    Stack = "stack",
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a [`Limit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a limit: use one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack"
)]
pub struct UnknownLimit(pub String);

impl FromStr for Limit {
    type Err = UnknownLimit;

    fn from_str(text: &str) -> Result<Self, UnknownLimit> {
        let found = Self::ALL.iter().find(|limit| limit.name() == text);
        found.copied().ok_or_else(|| UnknownLimit(text.to_owned()))
    }
}

/// A volume shown in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// Its name; empty where the agent is to make one up.
    pub name: String,
    /// It goes with the container: the name was made up.
    pub anonymous: bool,
    /// Absolute path inside the container.
    pub target: String,
    /// Refuse writing.
    pub read_only: bool,
    /// Leave an empty volume empty instead of filling it from the image.
    pub no_copy: bool,
    /// Labels of the volume, where it has to be made.
    pub labels: BTreeMap<String, String>,
}

/// A memory file system shown in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Absolute path inside the container.
    pub target: String,
    /// Options as mount(8) has them, such as `size=64m`, `mode=1770`, `ro`, `exec`.
    pub options: Vec<String>,
}

/// All that is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDetail {
    /// Unique name.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub created_at: u64,
    /// Anything its maker wanted to say.
    pub labels: BTreeMap<String, String>,
    /// It was made for one container and goes with it.
    pub anonymous: bool,
    /// Its content, in the agent's file system.
    pub mountpoint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_by_its_name() {
        for limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(*limit));
            let error = "x".parse::<Limit>().unwrap_err().to_string();
            assert!(error.contains(limit.name()), "{error}");
        }
        assert_eq!(Limit::ALL.len(), 16);
    }

    #[test]
    fn what_an_old_container_does_not_say_is_the_default() {
        let options: ContainerOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, ContainerOptions::default());
    }
}
