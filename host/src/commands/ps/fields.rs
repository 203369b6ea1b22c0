//! The fields of a container in a listing, under Docker's names.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isolazi_protocol::{
    ContainerState, ContainerSummary, HealthStatus, Isolation, NetworkMode, PublishedPort,
    SummaryMount,
};
use serde_json::{Value, json};

use crate::commands::places::Resident;
use crate::output;

/// The fields, with the headings that they have in a table.
pub(super) const HEADS: [(&str, &str); 16] = [
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("ImageID", "IMAGE ID"),
    ("Isolation", "ISOLATION"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// Characters of a command, and of a mount's source, where they are shortened.
const SHORT_COMMAND: usize = 20;
const SHORT_MOUNT: usize = 15;

/// A container's fields; `short` where ids and commands are to be shortened.
pub(super) fn of(resident: &Resident, short: bool) -> Value {
    let container = &resident.container;
    let id = match short {
        true => container.id.short(),
        false => container.id.as_str(),
    };
    let image_id = container.image_id.hex();
    json!({
        "ID": id,
        "Names": container.name,
        "Image": container.image,
        "ImageID": match short {
            true => image_id.chars().take(12).collect(),
            false => format!("sha256:{image_id}"),
        },
        "Command": command(&container.command, short),
        "CreatedAt": created_at(container.created_at),
        "RunningFor": ago(container.created_at),
        "Ports": ports(&container.ports),
        "State": state(&container.state),
        "Status": status(container),
        "Size": output::short_size(container.size.unwrap_or(0)),
        "Mounts": mounts(&container.mounts, short),
        "LocalVolumes": container.mounts.iter().filter(|it| it.volume).count().to_string(),
        "Networks": networks(&container.network).join(","),
        "Isolation": isolation(resident.isolation),
    })
}

/// Docker's word for where a container is in its life.
pub(super) fn state(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Paused { .. } => "paused",
        ContainerState::Restarting { .. } => "restarting",
        ContainerState::Exited { .. } => "exited",
    }
}

pub(super) fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Process => "process",
        Isolation::Vm => "vm",
    }
}

/// Docker's word for how a container is.
pub(super) fn health(container: &ContainerSummary) -> &'static str {
    container.health.map_or("none", HealthStatus::name)
}

fn status(container: &ContainerSummary) -> String {
    match &container.state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running { started_at, .. } => {
            let health = match container.health {
                None => String::new(),
                Some(HealthStatus::Starting) => " (health: starting)".to_owned(),
                Some(status) => format!(" ({})", status.name()),
            };
            format!("Up {}{health}", output::since(time(*started_at)))
        }
        ContainerState::Paused { started_at, .. } => {
            format!("Up {} (Paused)", output::since(time(*started_at)))
        }
        ContainerState::Restarting {
            code, finished_at, ..
        } => format!("Restarting ({code}) {}", ago(*finished_at)),
        ContainerState::Exited {
            code, finished_at, ..
        } => format!("Exited ({code}) {}", ago(*finished_at)),
    }
}

fn command(command: &[String], short: bool) -> String {
    let whole = command.join(" ");
    match short {
        true => quoted(&shortened(&whole, SHORT_COMMAND)),
        false => quoted(&whole),
    }
}

fn mounts(mounts: &[SummaryMount], short: bool) -> String {
    let sources = mounts.iter().map(|mount| match short {
        true => shortened(&mount.source, SHORT_MOUNT),
        false => mount.source.clone(),
    });
    sources.collect::<Vec<_>>().join(",")
}

/// `0.0.0.0:8080->80/tcp`, for each of them.
fn ports(ports: &[PublishedPort]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    let shown = ports.iter().map(|port| {
        let place = SocketAddr::new(port.address, port.host_port);
        format!("{place}->{}", port.target)
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn shortened(text: &str, length: usize) -> String {
    match text.chars().nth(length) {
        Some(_) => text.chars().take(length - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// In quotes, with what could be mistaken escaped (Go's `strconv.Quote`).
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// As Go prints a time, in UTC.
fn created_at(nanos: u64) -> String {
    output::moment(time(nanos))
}

fn ago(nanos: u64) -> String {
    format!("{} ago", output::since(time(nanos)))
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Names of the networks that a container joins.
pub(super) fn networks(mode: &NetworkMode) -> Vec<String> {
    match mode {
        NetworkMode::Networks(endpoints) => endpoints.iter().map(|it| it.network.clone()).collect(),
        other => vec![other.to_string()],
    }
}
