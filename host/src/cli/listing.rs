//! Options of the commands that list or describe.

use clap::Args;

use super::InspectKind;

use crate::output::format::{FormatError, Template};

/// `--format`, alike on everything that lists or describes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct FormatArgs {
    /// Print in this form: json, or a Go template such as '{{.ID}} {{json .}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

impl FormatArgs {
    /// The template, where there is one.
    pub fn template(&self) -> Result<Option<Template>, FormatError> {
        let format = self.format.as_deref().filter(|it| !it.is_empty());
        format.map(Template::parse).transpose()
    }
}

/// `isolazi ps`.
#[derive(Debug, Default, Args)]
pub struct PsArgs {
    /// Show all containers (default: only running)
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show the N containers created last, whatever their state
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// Show the container created last, whatever its state
    #[arg(short, long)]
    pub latest: bool,
    /// Show ids and commands in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show what each container has written
    #[arg(short, long)]
    pub size: bool,
    /// Show only what fits: KEY=VALUE, such as status=exited or name=web (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print in this form: json, table, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `isolazi images`.
#[derive(Debug, Default, Args)]
pub struct ImagesArgs {
    /// Show all images; there are no intermediate ones to hide
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Show only what fits: KEY=VALUE, such as reference='*/web:*' (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print in this form: json, table, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Show only images of this name, such as alpine or 'alp*:3.*'
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// `isolazi inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Look among these only, instead of containers first
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<InspectKind>,
    /// In which form.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}
