//! `isolazi events`.

use clap::Args;

/// `isolazi events`.
#[derive(Debug, Clone, Default, Args)]
pub struct EventsArgs {
    /// Start with what happened since then: RFC 3339, seconds since 1970, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show only what fits: type=, event=, container=, image=, volume=, network=, label= (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print in this form: json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
