//! Commands about containers that exist.

use clap::Args;
use isolazi_protocol::{Isolation, RestartPolicy};

use super::LimitArgs;
use crate::detach::DetachKeys;

/// What becomes of a container after its start.
#[derive(Debug, Clone, Default, Args)]
pub struct LifeArgs {
    /// When to start the container again after its end: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart_policy, default_value = "no")]
    pub restart: RestartPolicy,
    /// Where it runs: process (this host's kernel) or vm
    #[arg(long, value_name = "WHERE", value_parser = isolation)]
    pub isolation: Option<Isolation>,
    /// How to leave its terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
}

fn isolation(text: &str) -> Result<Isolation, &'static str> {
    match text {
        "process" => Ok(Isolation::Process),
        "vm" => Ok(Isolation::Vm),
        _ => Err("use process or vm"),
    }
}

/// Options of commands that attach to a terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct TerminalArgs {
    /// Keys that leave the terminal and let the container run [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
}

/// `isolazi start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach to its output and forward signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach to its standard input, too
    #[arg(short, long)]
    pub interactive: bool,
    /// How to leave its terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Seconds to wait before killing the container [default: the container's own, or 10]
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal to send, by name or number
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi wait`, `pause`, `unpause`: containers and nothing else.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `isolazi rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Id, start of an id, or name
    pub container: String,
    /// The new name
    pub name: String,
}

/// `isolazi attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Do not pass standard input on
    #[arg(long)]
    pub no_stdin: bool,
    /// How to leave its terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// When to start the container again: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart_policy)]
    pub restart: Option<RestartPolicy>,
    /// Most processes and threads; -1 for no limit
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// What it may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Ids, starts of ids, or names
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `no`, `on-failure[:N]`, `always` or `unless-stopped`.
pub(super) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    Ok(match text.split_once(':') {
        None => match text {
            "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => RestartPolicy::OnFailure { most: 0 },
            _ => return Err("use no, on-failure[:N], always or unless-stopped".to_owned()),
        },
        Some(("on-failure", most)) => RestartPolicy::OnFailure {
            most: most
                .parse()
                .map_err(|_| format!("'{most}' is not a number of restarts: use on-failure:N"))?,
        },
        Some((policy, _)) => return Err(format!("'{policy}' takes no number")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_are_dockers() {
        for (text, policy) in [
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { most: 0 }),
            ("on-failure:5", RestartPolicy::OnFailure { most: 5 }),
        ] {
            assert_eq!(restart_policy(text), Ok(policy));
        }
        for bad in ["", "never", "on-failure:", "on-failure:-1", "always:3"] {
            assert!(restart_policy(bad).is_err(), "{bad}");
        }
    }
}
