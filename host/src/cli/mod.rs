//! The command line as clap sees it: types and help texts, nothing else.

mod images;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use images::{
    HistoryArgs, ImageCommand, ImageInspectArgs, ImagePruneArgs, ImportArgs, LoadArgs, LoginArgs,
    LogoutArgs, PruneArgs, PushArgs, RmiArgs, SaveArgs, SystemCommand, SystemPruneArgs, TagArgs,
};
pub use run::{ProcessArgs, RunArgs};

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
    /// Print version information
    Version,
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
}

/// `isolazi exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// How the process is to run.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Id, start of an id, or name
    pub container: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `isolazi ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Show all containers (default: only running)
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// `isolazi logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Keep printing until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds to wait before killing the container
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    pub time: u32,
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
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Look among these only, instead of containers first
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<InspectKind>,
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

/// `isolazi images`.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// `isolazi vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum VmCommand {
    /// Start the virtual machine
    Start,
    /// Stop the virtual machine and the containers in it
    Stop,
    /// Show whether the machine runs, and which hypervisors there are
    Status,
    /// Show the machine's configuration
    Info,
}
