//! Signals to the command line reach the container's process.

use anyhow::Result;
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            signals_are_forwarded,
            a_killed_command_line_leaves_its_container_running,
        ],
    }
}

fn signals_are_forwarded(world: &World) -> Result<()> {
    let script = "trap 'echo INT; exit 5' INT; trap 'echo TERM; exit 6' TERM; trap 'echo HUP; exit 7' HUP; echo ready; while :; do sleep 0.05; done";
    for (signal, said, code) in [
        (Signal::INT, "ready\nINT\n", 5),
        (Signal::TERM, "ready\nTERM\n", 6),
        (Signal::HUP, "ready\nHUP\n", 7),
    ] {
        let mut running = world.sh(script).spawn()?;
        running.wait_for("ready\n")?;
        running.signal(signal)?;
        running.wait()?.code(code)?.stdout_is(said)?;
    }
    Ok(())
}

fn a_killed_command_line_leaves_its_container_running(world: &World) -> Result<()> {
    let container = world.container();
    let script = "echo ready; while :; do sleep 0.1; done";
    let mut running = world
        .isolazi([
            "run",
            "--name",
            container.name(),
            &world.busybox(),
            "sh",
            "-c",
            script,
        ])
        .spawn()?;
    running.wait_for("ready\n")?;
    running.signal(Signal::KILL)?;
    drop(running);
    let described = container.inspect()?;
    same(
        "status",
        &described["State"]["Status"].as_str(),
        &Some("running"),
    )?;
    let listed = world.isolazi(["ps"]).output()?.success()?;
    listed.stdout_has(container.name())?;
    container
        .exec(&[], &["echo", "still here"])
        .output()?
        .success()?
        .stdout_is("still here\n")?;
    Ok(())
}
