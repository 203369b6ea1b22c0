//! `isolazi vm`.

use clap::{Args, Subcommand};

use super::FormatArgs;

/// `isolazi vm`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum VmCommand {
    /// Start the virtual machine
    Start(SizeArgs),
    /// Stop the virtual machine and the containers in it
    Stop,
    /// Stop the virtual machine and start it again
    Restart {
        /// Restart its agent only; containers run on
        #[arg(long, conflicts_with_all = ["cpus", "memory", "disk"])]
        agent: bool,
        #[command(flatten)]
        size: SizeArgs,
    },
    /// Show whether the machine runs, and which hypervisors there are
    Status(FormatArgs),
    /// Show the machine's configuration
    Info(FormatArgs),
    /// Set how large the machine is from its next start on
    Resize(SizeArgs),
    /// Remove the machine with all containers, volumes and networks in it
    Reset {
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
    /// Print what the programs that run the machine have logged
    Logs(OutputArgs),
    /// Print what the guest's kernel and its first process say
    Console(OutputArgs),
}

/// How large the machine is to be. What is given is kept in the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct SizeArgs {
    /// Processors, at most as many as this host has
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Memory, such as 4g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Size of its disk, such as 100g; it can grow, but not shrink
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,
}

/// What to print of a log.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct OutputArgs {
    /// Go on with what comes, until the machine stops
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines from the end to begin with, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: String,
}
