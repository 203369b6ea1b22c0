//! `run --init`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            an_init_reaps_and_passes_signals_on,
            an_init_leaves_failures_as_they_are,
            an_init_works_with_a_terminal,
        ],
    }
}

fn an_init_reaps_and_passes_signals_on(world: &World) -> Result<()> {
    // The command may run before the init, its parent, has given itself a name.
    let script = "until grep -qx isolazi-init /proc/1/comm; do sleep 0.05; done; \
                  sh -c 'sleep 0.1 & exit' ; sleep 1; ps -o pid,stat,comm | grep -c ' Z' ; exit 5";
    let output = world.run_with(&["--init"], ["sh", "-c", script]).output()?;
    output.code(5)?.stdout_is("0\n")?;
    let script = "trap 'echo got TERM; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let container = world.start(&["--init"], &["sh", "-c", script])?;
    container.wait_log("ready")?;
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    let described = container.wait_status("exited")?;
    same("status", &described["State"]["ExitCode"], &json!(9))?;
    // A signal that nobody handles ends what a bare process 1 would survive.
    let container = world.start(&["--init", "-u", "alice"], &["sleep", "1000"])?;
    let before = Instant::now();
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    ensure!(
        before.elapsed() < Duration::from_secs(8),
        "it did not end by SIGTERM"
    );
    let described = container.wait_status("exited")?;
    same("status", &described["State"]["ExitCode"], &json!(143))
}

fn an_init_leaves_failures_as_they_are(world: &World) -> Result<()> {
    let output = world.run_with(&["--init"], ["no-such-command"]).output()?;
    output.fails_with(127, "no-such-command")?;
    let output = world.run_with(&["--init"], ["/etc/passwd"]).output()?;
    output.fails_with(126, "/etc/passwd")?;
    // Nothing of it can be written to, or reached by a descriptor.
    let script = "(echo x >/proc/1/exe) 2>/dev/null && echo wrote; sleep 0; ls -l /proc/self/fd | grep -c memfd; true";
    let output = world.run_with(&["--init"], ["sh", "-c", script]).output()?;
    output.success()?.stdout_is("0\n")?;
    Ok(())
}

fn an_init_works_with_a_terminal(world: &World) -> Result<()> {
    let image = world.busybox();
    let script = "trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    let mut session = world
        .isolazi(["run", "--rm", "--init", "-it", &image, "sh", "-c", script])
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    session.type_in("\x03")?;
    session.wait_for("int")?;
    same("status", &session.wait()?.code(), &Some(4))
}
