//! Options for how a container is confined, and `isolazi seccomp`.

use clap::{Args, Subcommand};

/// What keeps a container from doing harm.
#[derive(Debug, Clone, Default, Args)]
pub struct SecurityArgs {
    /// Which system calls it may make: default, minimal, strict, disabled, or a file as Docker has them
    #[arg(long, value_name = "PROFILE")]
    pub seccomp: Option<String>,
    /// Do not filter its system calls (for debugging)
    #[arg(long)]
    pub no_seccomp: bool,
    /// seccomp=PROFILE|unconfined, no-new-privileges[=false], systempaths=unconfined, apparmor=PROFILE or label=… (can be repeated)
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
}

/// `isolazi seccomp`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SeccompCommand {
    /// Print what a profile comes to, as JSON that can be given as a profile
    Show {
        /// default, minimal, strict, or a file
        profile: String,
    },
}
