//! The command line as clap sees it: types and help texts, nothing else.

mod containers;
mod events;
mod files;
mod health;
mod help;
mod images;
mod limits;
mod listing;
mod network;
mod privileges;
mod run;
mod security;
mod settings;
mod shell;
mod userns;
mod vm;
mod volumes;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use containers::{
    AttachArgs, KillArgs, LifeArgs, NamedArgs, RenameArgs, RestartArgs, StartArgs, TerminalArgs,
    UpdateArgs,
};
pub use events::EventsArgs;
pub use files::{CommitArgs, CpArgs, DiffArgs, ExportArgs, StatsArgs, TopArgs};
pub use health::HealthArgs;
pub use help::{command, command_for, complaint};
pub use images::{
    HistoryArgs, ImageCommand, ImageInspectArgs, ImagePruneArgs, ImportArgs, LoadArgs, LoginArgs,
    LogoutArgs, PruneArgs, PushArgs, RmiArgs, SaveArgs, SystemCommand, SystemPruneArgs, TagArgs,
};
pub use limits::LimitArgs;
pub use listing::{FormatArgs, ImagesArgs, InspectArgs, PsArgs};
pub use network::{
    NetworkArgs, NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs,
    NetworkInspectArgs, NetworkLsArgs, NetworkPruneArgs, NetworkRmArgs, PortArgs,
};
pub use privileges::{FixedLimitArgs, PrivilegeArgs};
pub use run::{ProcessArgs, RunArgs};
pub use security::{SeccompCommand, SecurityArgs};
pub use settings::{PullPolicy, SettingsArgs};
pub use shell::{CompletionArgs, ManArgs, Shell};
pub use userns::{UsernsArgs, UsernsMode};
pub use vm::{OutputArgs, SizeArgs, VmCommand};
pub use volumes::{
    VolumeCommand, VolumeCreateArgs, VolumeInspectArgs, VolumeLsArgs, VolumePruneArgs, VolumeRmArgs,
};

/// Run OCI containers, on this host's kernel or in a minimal virtual machine.
#[derive(Debug, Parser)]
#[command(
    name = "isolazi",
    version,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before or after the command.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// Use the virtual machine instead of this host's kernel
    #[arg(
        long,
        global = true,
        env = "ISOLAZI_VM",
        value_parser = clap::builder::FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue
    )]
    pub vm: bool,
    /// Keep all data in DIR instead of ~/.isolazi
    #[arg(long, global = true, env = "ISOLAZI_HOME", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Talk plain HTTP to this registry (HOST or HOST:PORT; can be repeated)
    #[arg(long, global = true, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a new container
    Run(RunArgs),
    /// Execute a command in a running container
    Exec(ExecArgs),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(PsArgs),
    /// Print a container's output
    Logs(LogsArgs),
    /// Stop running containers
    Stop(StopArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Display details of containers or images as JSON
    Inspect(InspectArgs),
    /// Pull an image from a registry
    Pull(PullArgs),
    /// List cached images
    Images(ImagesArgs),
    /// Manage the virtual machine
    #[command(subcommand)]
    Vm(VmCommand),
    /// Look whether containers can run here, and how to mend what keeps them from it
    Doctor(FormatArgs),
    /// Print version information
    Version(FormatArgs),
    /// Create a container without starting it
    Create(RunArgs),
    /// Start stopped containers
    Start(StartArgs),
    /// Restart containers
    Restart(RestartArgs),
    /// Send a signal to running containers
    Kill(KillArgs),
    /// Wait until containers stop, and print their exit codes
    Wait(NamedArgs),
    /// Suspend all processes of containers
    Pause(NamedArgs),
    /// Let the processes of paused containers go on
    Unpause(NamedArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// Attach to the terminal or the streams of a running container
    Attach(AttachArgs),
    /// Change the restart policy of containers
    Update(UpdateArgs),
    /// Print what makes a shell complete commands, options and names
    Completion(CompletionArgs),
    /// Print the manual page, or write one for each command to a folder
    Man(ManArgs),
    /// Manage volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Copy files between a container and this host
    Cp(CpArgs),
    /// List what a container has changed of its image
    Diff(DiffArgs),
    /// Write a container's root file system as a tar
    Export(ExportArgs),
    /// List the processes of a container
    Top(TopArgs),
    /// List the ports of a container that are published, and how they are reached
    Port(PortArgs),
    /// Show what containers use
    Stats(StatsArgs),
    /// Make an image of a container's changes
    Commit(CommitArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Give an image a further name
    Tag(TagArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Manage images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Write images to a tar archive
    Save(SaveArgs),
    /// Read images from a tar archive
    Load(LoadArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Remove stopped containers and unused images
    Prune(PruneArgs),
    /// Manage disk space
    #[command(subcommand)]
    System(SystemCommand),
    /// Show what happens to containers, volumes and images
    Events(EventsArgs),
    /// Show system-call filters
    #[command(subcommand)]
    Seccomp(SeccompCommand),
}

/// `isolazi exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Run the command in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Give the command all capabilities, and do not filter its system calls
    #[arg(long)]
    pub privileged: bool,
    /// How to leave its terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// How the process is to run.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Id, start of an id, or name
    pub container: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `isolazi logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Keep printing until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print only so many lines of the end, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: String,
    /// Print when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Print what was written since then: RFC 3339, seconds since 1970, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Print what was written before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds to wait before killing the container [default: the container's own, or 10]
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Kill running containers first
    #[arg(short, long)]
    pub force: bool,
    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    pub volumes: bool,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// What `inspect` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum InspectKind {
    /// Containers only
    Container,
    /// Images only
    Image,
}

/// `isolazi pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Pull for this platform (OS/ARCH[/VARIANT]) instead of this machine's
    #[arg(long)]
    pub platform: Option<String>,
    /// Print only the image's reference
    #[arg(short, long)]
    pub quiet: bool,
    /// Image reference, such as alpine:3.18 or ghcr.io/owner/repo:tag
    pub image: String,
}
