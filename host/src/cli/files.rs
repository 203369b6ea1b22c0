//! Options of the commands that look into containers and copy out of them.

use std::path::PathBuf;

use clap::Args;

/// `isolazi cp`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// Keep the source's owner and group ids
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symbolic link named as SRC leads to
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a local path, or - for a tar on standard input
    #[arg(value_name = "SRC")]
    pub source: String,
    /// A local path, CONTAINER:PATH, or - for a tar on standard output
    #[arg(value_name = "DST")]
    pub target: String,
}

/// `isolazi diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Id, start of an id, or name
    pub container: String,
    /// What to show, as ps has it: -ef, aux, or -o COLUMN,…
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `isolazi stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show all containers (default: only running)
    #[arg(short, long)]
    pub all: bool,
    /// Print once and end
    #[arg(long)]
    pub no_stream: bool,
    /// Ids, starts of ids, or names
    pub containers: Vec<String>,
}

/// `isolazi commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Who made the image
    #[arg(short, long, default_value = "")]
    pub author: String,
    /// Apply a Dockerfile instruction to the image (can be repeated)
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// What the image is about
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Id, start of an id, or name
    pub container: String,
    /// Name of the image, such as me/web:2
    #[arg(value_name = "REF")]
    pub reference: Option<String>,
}
