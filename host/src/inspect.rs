//! A container's details under Docker's field names (Engine API,
//! `ContainerInspect`), as far as they have a meaning here.

mod network;
mod options;
mod security;
mod userns;

pub use network::network_detail;
pub use options::volume;

use std::time::{Duration, UNIX_EPOCH};

use isolazi_protocol::{
    BindMount, ContainerDetail, ContainerState, Health, Isolation, ProbeResult, RestartPolicy,
};
use serde_json::{Value, json};

/// The JSON object that `isolazi inspect` prints.
pub fn container(detail: &ContainerDetail, isolation: Isolation) -> Value {
    let spec = &detail.spec;
    let process = &spec.process;
    let mut described = json!({
        "Id": detail.id,
        "Name": detail.name,
        "Created": time(detail.created_at),
        "Image": spec.image.id,
        "Isolation": isolation,
        "Path": process.args.first(),
        "Args": process.args.get(1..).unwrap_or_default(),
        "State": state(&detail.state),
        "Config": {
            "Image": spec.image.reference,
            "Hostname": spec.hostname.as_deref().unwrap_or(detail.id.short()),
            "User": process.user,
            "Env": process.env,
            "Cmd": process.args,
            "WorkingDir": process.cwd,
            "Tty": process.terminal.is_some(),
            "OpenStdin": process.open_stdin,
            "StopSignal": spec.stop_signal.as_deref().unwrap_or("SIGTERM"),
        },
        "HostConfig": {
            "AutoRemove": spec.auto_remove,
            "SeccompProfile": security::profile(&spec.seccomp),
            "SecurityOpt": security::options(spec),
            "PidsLimit": options::pids_limit(spec.resources.pids_limit),
            "RestartPolicy": restart_policy(spec.restart),
        },
        "Mounts": spec.mounts.iter().map(mount).collect::<Vec<_>>(),
        "LogPath": format!("{}/container.log", detail.directory),
    });
    options::describe(&mut described, detail);
    network::describe(&mut described, detail);
    if let Some(found) = &detail.health {
        described["State"]["Health"] = health(found);
    }
    described
}

fn state(state: &ContainerState) -> Value {
    let oom_killed = matches!(
        state,
        ContainerState::Exited {
            oom_killed: true,
            ..
        }
    );
    let (status, pid, code, started, finished, error) = match state {
        ContainerState::Created => ("created", 0, 0, None, None, None),
        ContainerState::Running { pid, started_at } => {
            ("running", *pid, 0, Some(*started_at), None, None)
        }
        ContainerState::Paused { pid, started_at } => {
            ("paused", *pid, 0, Some(*started_at), None, None)
        }
        ContainerState::Restarting {
            code, finished_at, ..
        } => ("restarting", 0, *code, None, Some(*finished_at), None),
        ContainerState::Exited {
            code,
            started_at,
            finished_at,
            error,
            ..
        } => (
            "exited",
            0,
            *code,
            *started_at,
            Some(*finished_at),
            error.as_deref(),
        ),
    };
    json!({
        "Status": status,
        // As Docker has it, what is paused or restarting runs.
        "Running": state.is_active(),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "Pid": pid,
        "OOMKilled": oom_killed,
        "ExitCode": code,
        "Error": error.unwrap_or_default(),
        "StartedAt": started.map(time),
        "FinishedAt": finished.map(time),
    })
}

/// Docker's `State.Health`.
fn health(health: &Health) -> Value {
    let result = |result: &ProbeResult| {
        json!({
            "Start": time(result.start),
            "End": time(result.end),
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    };
    json!({
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(result).collect::<Vec<_>>(),
    })
}

/// Docker's `HostConfig.RestartPolicy`.
fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, most) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure { most } => ("on-failure", most),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({ "Name": name, "MaximumRetryCount": most })
}

fn mount(mount: &BindMount) -> Value {
    json!({
        "Type": "bind",
        "Source": mount.host_path,
        "Destination": mount.target,
        "Mode": if mount.read_only { "ro" } else { "" },
        "RW": !mount.read_only,
        "Propagation": mount.propagation.name(),
    })
}

fn time(nanos: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanos)).to_string()
}
