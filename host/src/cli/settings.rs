//! Options of a container beyond its first process. All texts are as the user
//! wrote them; `options` makes sense of them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{FixedLimitArgs, HealthArgs, LimitArgs, PrivilegeArgs, SecurityArgs, UsernsArgs};

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// Every time
    Always,
    /// When it is not here
    #[default]
    Missing,
    /// Not at all
    Never,
}

/// Options of `run` that say what the container is like.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// Set a label (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file, one a line (can be repeated)
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Set an annotation (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds that stop waits before killing the container [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Write the container's id to a file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub pull: PullPolicy,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Add a line to /etc/hosts (can be repeated)
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Name server to use instead of the host's (can be repeated)
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Search domain to use instead of the host's; . for none (can be repeated)
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Resolver option to use instead of the host's (can be repeated)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Limit of each process, such as nofile=1024:2048; -1 for none (can be repeated)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Size of /dev/shm, such as 128m [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Add the user to a further group (can be repeated)
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Run an init that reaps processes and passes signals on
    #[arg(long)]
    pub init: bool,
    /// Set a kernel parameter of the container's namespaces (can be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Be killed sooner (up to 1000) or later (down to -1000) when memory is short
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,
    /// Most processes and threads; -1 for no limit [default: 2048]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Mount a memory file system (can be repeated)
    #[arg(long, value_name = "DST[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount a folder, volume or memory file system: type=bind|volume|tmpfs,src=…,dst=…[,ro] (can be repeated)
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// How to find out whether it is well.
    #[command(flatten)]
    pub health: HealthArgs,
    /// What it may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What it may use, for good.
    #[command(flatten)]
    pub fixed_limits: FixedLimitArgs,
    /// What it may do.
    #[command(flatten)]
    pub privileges: PrivilegeArgs,
    /// How it is confined.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// Which users it has.
    #[command(flatten)]
    pub userns: UsernsArgs,
}
