//! `isolazi stats`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail};
use isolazi_protocol::{ContainerId, ContainerUsage, Reply, Request};

use crate::cli::StatsArgs;
use crate::commands::Context;
use crate::engine::Engine;
use crate::output::{self, Table, binary_size, decimal_size};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// To the top left, and clears from there.
const HOME: &str = "\x1b[H\x1b[J";

const HEADS: [&str; 8] = [
    "CONTAINER ID",
    "NAME",
    "CPU %",
    "MEM USAGE / LIMIT",
    "MEM %",
    "NET I/O",
    "BLOCK I/O",
    "PIDS",
];

pub(super) async fn stats(context: &Context, args: &StatsArgs) -> Result<()> {
    let places = places(context, args).await?;
    tokio::select! {
        result = show(&places, args) => result,
        // Ctrl-C is how one leaves.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// An engine, and which of its containers are asked about.
struct Place {
    engine: Engine,
    containers: Vec<String>,
}

/// Where the containers are that were named; without names all places that
/// have any.
async fn places(context: &Context, args: &StatsArgs) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    let mut add = |engine: Engine, container: Option<&String>| {
        let known = places
            .iter_mut()
            .find(|place| place.engine.isolation() == engine.isolation());
        match known {
            Some(place) => place.containers.extend(container.cloned()),
            None => places.push(Place {
                engine,
                containers: container.cloned().into_iter().collect(),
            }),
        }
    };
    for container in &args.containers {
        add(context.engine_of(container).await?, Some(container));
    }
    if args.containers.is_empty() {
        for resident in context.residents(args.all, false).await? {
            add(context.engine_in(resident.isolation)?, None);
        }
    }
    Ok(places)
}

async fn show(places: &[Place], args: &StatsArgs) -> Result<()> {
    let mut before = look(places, args).await?;
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = look(places, args).await?;
        let table = table(&before, &now);
        if args.no_stream {
            output::result(table.render());
            return Ok(());
        }
        let clear = if std::io::stdout().is_terminal() {
            HOME
        } else {
            ""
        };
        output::result(format!("{clear}{}", table.render()));
        before = now;
    }
}

async fn look(places: &[Place], args: &StatsArgs) -> Result<Vec<ContainerUsage>> {
    let mut found = Vec::new();
    for place in places {
        let request = Request::Usage {
            containers: place.containers.clone(),
            all: args.all,
        };
        match place.engine.ask(&request).await? {
            Reply::Usage(usages) => found.extend(usages),
            _ => bail!("the agent did not say what its containers use"),
        }
    }
    Ok(found)
}

fn table(before: &[ContainerUsage], now: &[ContainerUsage]) -> Table {
    let before: HashMap<&ContainerId, &ContainerUsage> =
        before.iter().map(|usage| (&usage.id, usage)).collect();
    let mut table = Table::new(&HEADS);
    for usage in now {
        table.row(row(before.get(&usage.id).copied(), usage));
    }
    table
}

fn row(before: Option<&ContainerUsage>, now: &ContainerUsage) -> [String; 8] {
    let pair = |pair: Option<(u64, u64)>| {
        let (a, b) = pair.unwrap_or_default();
        format!("{} / {}", decimal_size(a), decimal_size(b))
    };
    let memory = match now.memory_limit {
        0 => 0.0,
        limit => now.memory as f64 / limit as f64 * 100.0,
    };
    [
        now.id.short().to_owned(),
        now.name.clone(),
        format!("{:.2}%", cpu(before, now)),
        format!(
            "{} / {}",
            binary_size(now.memory),
            binary_size(now.memory_limit)
        ),
        format!("{memory:.2}%"),
        pair(now.network),
        pair(now.block),
        now.pids.to_string(),
    ]
}

/// Of one processor; several may be used at once.
fn cpu(before: Option<&ContainerUsage>, now: &ContainerUsage) -> f64 {
    let Some(before) = before.filter(|before| before.running && now.running) else {
        return 0.0;
    };
    let time = now.read_at.saturating_sub(before.read_at);
    let used = now.cpu_time.saturating_sub(before.cpu_time);
    match time {
        0 => 0.0,
        time => used as f64 / time as f64 * 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(read_at: u64, cpu_time: u64) -> ContainerUsage {
        ContainerUsage {
            id: ContainerId::from_random(&[1; 32]),
            name: "web".to_owned(),
            running: true,
            read_at,
            cpu_time,
            memory: 3 << 20,
            memory_limit: 12 << 20,
            network: Some((1000, 2_500_000)),
            block: None,
            pids: 2,
        }
    }

    #[test]
    fn a_row_has_what_changed_in_between() {
        let (before, now) = (
            usage(1_000_000_000, 500),
            usage(2_000_000_000, 1_500_000_500),
        );
        let row = row(Some(&before), &now);
        let expected = [
            "150.00%",
            "3MiB / 12MiB",
            "25.00%",
            "1kB / 2.5MB",
            "0B / 0B",
            "2",
        ];
        assert_eq!(row[1], "web");
        assert_eq!(row[2..], expected);
    }

    #[test]
    fn what_was_not_there_before_has_used_nothing_yet() {
        let now = usage(5, 5);
        assert_eq!(cpu(None, &now), 0.0);
        assert_eq!(cpu(Some(&now), &now), 0.0);
        let mut ended = usage(1, 1);
        ended.running = false;
        assert_eq!(cpu(Some(&ended), &now), 0.0);
    }
}
