//! `exec`: a further process in a running container.

use anyhow::{Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            exec_runs_beside_the_first_process,
            exec_passes_its_exit_code,
            exec_streams_both_ways,
            exec_has_its_own_environment_user_and_folder,
            exec_is_in_every_namespace_of_the_container,
            exec_is_as_restricted_as_the_container,
            exec_forwards_signals,
            exec_ends_with_its_container,
            exec_needs_a_running_container,
            containers_are_found_by_id_and_its_start,
        ],
    }
}

fn exec_runs_beside_the_first_process(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "echo here >/tmp/mark; sleep 1000"])?;
    eventually(world.patience(20), "the mark", || {
        let output = container.exec(&[], &["cat", "/tmp/mark"]).output()?;
        Ok((output.stdout == b"here\n").then_some(()))
    })?;
    let output = container
        .exec(
            &[],
            &["sh", "-c", "ps | grep -v grep | grep -c 'sleep 1000'"],
        )
        .output()?;
    output.success()?.stdout_is("1\n")?;
    Ok(())
}

fn exec_passes_its_exit_code(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    for code in [0, 3, 125, 255] {
        container
            .exec(&[], &["sh", "-c", &format!("exit {code}")])
            .output()?
            .code(code)?;
    }
    container
        .exec(&[], &["sh", "-c", "kill -9 $$"])
        .output()?
        .code(137)?;
    container
        .exec(&[], &["no-such-command"])
        .output()?
        .fails_with(127, "no-such-command")?;
    container
        .exec(&[], &["/etc/passwd"])
        .output()?
        .fails_with(126, "/etc/passwd")?;
    Ok(())
}

fn exec_streams_both_ways(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let output = container
        .exec(&[], &["sh", "-c", "echo out; echo err >&2"])
        .output()?;
    output.success()?.stdout_is("out\n")?.stderr_is("err\n")?;
    let data = vec![b'x'; 3_000_000];
    let output = container
        .exec(&["-i"], &["cat"])
        .stdin(data.clone())
        .output()?
        .success()?;
    ensure!(
        output.stdout == data,
        "{} bytes came back",
        output.stdout.len()
    );
    let output = container.exec(&[], &["cat"]).stdin("unheard").output()?;
    output.success()?.stdout_is("")?;
    // What exec prints is not the container's log.
    let log = world.isolazi(["logs", container.name()]).output()?;
    log.success()?.stdout_is("")?;
    Ok(())
}

fn exec_has_its_own_environment_user_and_folder(world: &World) -> Result<()> {
    let options = ["-e", "KEPT=kept", "-e", "LOST=lost", "-w", "/data"];
    let container = world.start(&options, &["sleep", "1000"])?;
    let script = ["sh", "-c", "echo $KEPT $LOST $(pwd) $(id -u)"];
    let output = container.exec(&[], &script).output()?;
    output.success()?.stdout_is("kept lost /data 0\n")?;
    let options = ["-e", "LOST=found", "-u", "alice", "-w", "/tmp"];
    let output = container.exec(&options, &script).output()?;
    output.success()?.stdout_is("kept found /tmp 1000\n")?;
    Ok(())
}

fn exec_is_in_every_namespace_of_the_container(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let script = "for n in mnt pid uts ipc net cgroup user; do \
                  test \"$(readlink /proc/self/ns/$n)\" = \"$(readlink /proc/1/ns/$n)\" || echo $n; done";
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    output.success()?.stdout_is("")?;
    let script = "cmp /proc/self/cgroup /proc/1/cgroup && echo same";
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    output.success()?.stdout_is("same\n")?;
    Ok(())
}

fn exec_is_as_restricted_as_the_container(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let script = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status; ls /proc/self/fd";
    let first = world.sh(script).output()?.success()?.stdout_text();
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    same("posture of exec", &output.success()?.stdout_text(), &first)
}

fn exec_forwards_signals(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let script = "trap 'echo TERM; exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = container.exec(&[], &["sh", "-c", script]).spawn()?;
    running.wait_for("ready\n")?;
    running.signal(Signal::TERM)?;
    running.wait()?.code(6)?.stdout_is("ready\nTERM\n")?;
    Ok(())
}

fn exec_ends_with_its_container(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let mut running = container
        .exec(&[], &["sh", "-c", "echo ready; sleep 1000"])
        .spawn()?;
    running.wait_for("ready\n")?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    running.wait()?.code(137)?;
    Ok(())
}

fn exec_needs_a_running_container(world: &World) -> Result<()> {
    let output = world
        .isolazi(["exec", "no-such-container", "true"])
        .output()?;
    output.fails_with(125, "no-such-container")?;
    let container = world.start(&[], &["true"])?;
    container.wait_status("exited")?;
    let output = container.exec(&[], &["true"]).output()?;
    output.fails_with(125, "not running")?;
    Ok(())
}

fn containers_are_found_by_id_and_its_start(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for given in [&id[..], &id[..12], &id[..8]] {
        let output = world.isolazi(["exec", given, "echo", "found"]).output()?;
        output.success()?.stdout_is("found\n")?;
    }
    Ok(())
}
