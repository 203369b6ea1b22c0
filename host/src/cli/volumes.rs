//! `isolazi volume`.

use clap::{Args, Subcommand};

/// The verbs of `isolazi volume`.
#[derive(Debug, Clone, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(VolumeLsArgs),
    /// Display details of volumes as JSON
    Inspect(VolumeInspectArgs),
    /// Remove volumes that no container has
    #[command(visible_alias = "remove")]
    Rm(VolumeRmArgs),
    /// Remove all anonymous volumes that no container has
    Prune(VolumePruneArgs),
}

/// `isolazi volume create`.
#[derive(Debug, Clone, Args)]
pub struct VolumeCreateArgs {
    /// Set a label (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Name of the volume; made up where there is none
    pub name: Option<String>,
}

/// `isolazi volume ls`.
#[derive(Debug, Clone, Args)]
pub struct VolumeLsArgs {
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
}

/// `isolazi volume inspect`.
#[derive(Debug, Clone, Args)]
pub struct VolumeInspectArgs {
    /// Names
    #[arg(required = true)]
    pub volumes: Vec<String>,
}

/// `isolazi volume rm`.
#[derive(Debug, Clone, Args)]
pub struct VolumeRmArgs {
    /// Volumes that do not exist are no error
    #[arg(short, long)]
    pub force: bool,
    /// Names
    #[arg(required = true)]
    pub volumes: Vec<String>,
}

/// `isolazi volume prune`.
#[derive(Debug, Clone, Args)]
pub struct VolumePruneArgs {
    /// Remove named volumes, too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}
