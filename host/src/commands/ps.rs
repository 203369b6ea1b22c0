//! `isolazi ps`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use isolazi_protocol::{ContainerState, ContainerSummary, Reply, Request};

use crate::cli::PsArgs;
use crate::commands::Context;
use crate::output::{self, Table};

const LONGEST_COMMAND: usize = 24;

pub(super) async fn ps(context: &Context, args: &PsArgs) -> Result<()> {
    let reply = context
        .engine()?
        .ask(&Request::List { all: args.all })
        .await?;
    let Reply::Containers(containers) = reply else {
        bail!("the agent did not list its containers");
    };
    if args.quiet {
        for container in containers {
            output::result(container.id.short());
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ]);
    for container in &containers {
        table.row(row(container));
    }
    output::result(table.render());
    Ok(())
}

fn row(container: &ContainerSummary) -> [String; 6] {
    [
        container.id.short().to_owned(),
        container.image.clone(),
        quoted(&container.command),
        ago(container.created_at),
        status(&container.state),
        container.name.clone(),
    ]
}

fn quoted(command: &[String]) -> String {
    let whole = command.join(" ");
    match whole.chars().count() > LONGEST_COMMAND {
        true => {
            let start: String = whole.chars().take(LONGEST_COMMAND - 1).collect();
            format!("\"{start}…\"")
        }
        false => format!("\"{whole}\""),
    }
}

fn status(state: &ContainerState) -> String {
    match state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running { started_at, .. } => format!("Up {}", since(time(*started_at))),
        ContainerState::Paused { started_at, .. } => {
            format!("Up {} (Paused)", since(time(*started_at)))
        }
        ContainerState::Restarting {
            code, finished_at, ..
        } => format!("Restarting ({code}) {}", ago(*finished_at)),
        ContainerState::Exited {
            code, finished_at, ..
        } => format!("Exited ({code}) {}", ago(*finished_at)),
    }
}

fn ago(nanos: u64) -> String {
    format!("{} ago", since(time(nanos)))
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// How long ago a moment was, in words.
pub(super) fn since(then: SystemTime) -> String {
    // A clock that was set back makes it "now".
    in_words(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// A duration in its largest unit, in Docker's words.
fn in_words(duration: Duration) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = duration.as_secs();
    let unit = UNITS
        .iter()
        .find(|(length, _)| seconds >= 2 * length || (*length <= 3600 && seconds >= *length));
    match unit {
        Some((length, name)) => plural(seconds / length, name),
        None if seconds == 0 => "less than a second".to_owned(),
        None => plural(seconds, "second"),
    }
}

fn plural(count: u64, unit: &str) -> String {
    match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        for (seconds, words) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7199, "1 hour"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (400 * 86_400, "13 months"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn long_commands_are_cut() {
        let shown = quoted(&["/bin/sh".to_owned(), "-c".to_owned(), "x".repeat(90)]);
        assert_eq!(shown.chars().count(), LONGEST_COMMAND + 2);
    }
}
