//! Options of the commands that start a process.

use std::path::PathBuf;

use clap::Args;

use super::containers::LifeArgs;
use super::{NetworkArgs, SettingsArgs};

/// `isolazi run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Run the container in the background and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// How the process is to run.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Mount a host folder or file, or a volume: SRC:DST[:OPTIONS], NAME:DST[:OPTIONS] or DST (can be repeated)
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub volume: Vec<String>,
    /// Host name of the container
    #[arg(long)]
    pub hostname: Option<String>,
    /// Program to run instead of the image's entrypoint; empty for none
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Run the image's variant for this platform (OS/ARCH[/VARIANT])
    #[arg(long)]
    pub platform: Option<String>,
    /// What becomes of it after its start.
    #[command(flatten)]
    pub life: LifeArgs,
    /// How it is connected.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What the container is like.
    #[command(flatten)]
    pub settings: Box<SettingsArgs>,
    /// Image reference
    pub image: String,
    /// Command and arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Options that `run` and `exec` share.
#[derive(Debug, Clone, Default, Args)]
pub struct ProcessArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set environment variables: KEY=VALUE[,KEY=VALUE…], or KEY to pass on the host's (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Read environment variables from a file, one a line (can be repeated)
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// User to run as: name or number, with an optional group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR")]
    pub workdir: Option<String>,
}
