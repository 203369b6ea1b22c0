//! Probing a container, from its start to its end.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use isolazi_protocol::{ExecSpec, Frame, Health, HealthCheck, ProbeResult};
use tokio::task::spawn_local;

use crate::container::{health, now};
use crate::shim::life::Shim;
use crate::shim::process::{Following, Process};

/// Where a probe could not be run or took too long.
const NO_STATUS: i32 = -1;

/// Probes until `first`, the container's first process, has ended. A probe that
/// is under way then ends with it, and is reaped here.
pub(super) async fn watch(shim: Rc<Shim>, first: Rc<Process>, check: HealthCheck) {
    let Some(command) = check.test.command() else {
        return;
    };
    let spec = ExecSpec {
        args: command,
        env: Vec::new(),
        cwd: None,
        user: None,
        terminal: None,
        open_stdin: false,
        privileged: false,
    };
    let mut known = Health::default();
    loop {
        let pause = health::pause(&check, known.status, shim.age());
        tokio::select! {
            () = first.ended() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let (age, pauses) = (shim.age(), shim.pauses());
        if shim.is_paused() {
            continue;
        }
        let result = probe(&shim, &spec, health::timeout(&check)).await;
        if first.status().is_some() {
            return;
        }
        // What stood still in between says nothing.
        if shim.pauses() != pauses {
            continue;
        }
        let changed = health::judge(&mut known, &check, result, age);
        shim.keep_health(&known, changed);
    }
}

async fn probe(shim: &Shim, spec: &ExecSpec, limit: Duration) -> ProbeResult {
    let start = now();
    let (exit_code, output) = match run(shim, spec, limit).await {
        Ok(Probed {
            code: Some(code),
            output,
        }) => (code, output),
        Ok(Probed { code: None, output }) => {
            let limit = humantime::format_duration(limit);
            let why = format!("Health check exceeded timeout ({limit})");
            let separator = if output.is_empty() { "" } else { ": " };
            (NO_STATUS, format!("{why}{separator}{output}"))
        }
        Err(why) => (NO_STATUS, why),
    };
    ProbeResult {
        start,
        end: now(),
        exit_code,
        output,
    }
}

/// A probe that ran.
struct Probed {
    /// `None` where it had to be killed.
    code: Option<i32>,
    output: String,
}

async fn run(shim: &Shim, spec: &ExecSpec, limit: Duration) -> Result<Probed, String> {
    let started = shim.launch_exec(spec).map_err(|error| error.message)?;
    let process = Rc::clone(started.process());
    let output = spawn_local(first_of(process.follow()));
    let mut running = started.unannounced();
    let in_time = tokio::time::timeout(limit, running.ended()).await;
    let code = match in_time {
        Ok(code) => Some(code),
        Err(_) => {
            process.signal(nix::libc::SIGKILL);
            None
        }
    };
    let last = match (code, process.status()) {
        (Some(code), _) | (None, Some(code)) => code,
        (None, None) => running.ended().await,
    };
    running.finish(last).await;
    let output = output.await.unwrap_or_default();
    Ok(Probed { code, output })
}

/// The start of a process's output, which is read to its end.
async fn first_of(mut following: Following) -> String {
    let mut kept = BytesMut::new();
    let mut is_whole = true;
    while let Some(frame) = following.next().await {
        if let Frame::Data(_, bytes) = &frame {
            let room = health::MOST_OUTPUT - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            is_whole &= bytes.len() <= room;
        }
        following.passed_on(&frame);
    }
    let text = String::from_utf8_lossy(&kept);
    match is_whole {
        true => text.into_owned(),
        false => format!("{text}..."),
    }
}
