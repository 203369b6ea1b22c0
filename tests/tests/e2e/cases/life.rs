//! Containers that are created, started, suspended, renamed and started again.

use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, Container, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            what_is_created_is_started_later,
            a_stopped_container_starts_again_with_its_changes,
            start_attaches_where_asked,
            starting_what_runs_is_fine_and_attaches,
            a_container_is_restarted,
            signals_by_name_and_number,
            wait_gives_the_exit_code,
            a_paused_container_stands_still,
            a_paused_container_can_be_stopped,
            a_renamed_container_answers_to_its_new_name_only,
            exec_in_the_background,
            attached_streams_come_and_go,
            a_terminal_is_left_by_its_keys,
            on_failure_is_tried_again_so_many_times,
            always_means_until_it_is_stopped,
            a_policy_can_be_changed,
            logs_of_a_part,
            volumes_are_there_after_a_restart,
            contradictions_are_refused,
        ],
        VmAlone: [
            a_boot_brings_back_what_is_to_come_back,
        ],
    }
}

/// `isolazi create` of busybox.
fn create<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Result<Container<'a>> {
    let container = world.container();
    world
        .isolazi(["create", "--name", container.name()])
        .args(options)
        .args([world.busybox()])
        .args(command)
        .output()?
        .success()?;
    Ok(container)
}

fn done(world: &World, args: &[&str]) -> Result<()> {
    world.isolazi(args).output()?.success().map(drop)
}

fn what_is_created_is_started_later(world: &World) -> Result<()> {
    let container = create(world, &[], &["sh", "-c", "echo ran; exit 3"])?;
    let described = container.inspect()?;
    same(
        "status",
        &described["State"]["Status"].as_str(),
        &Some("created"),
    )?;
    ensure!(container.is_listed()?, "it is not listed");
    let logs = world.isolazi(["logs", container.name()]).output()?;
    logs.success()?.stdout_is("")?;
    container
        .exec(&[], &["true"])
        .output()?
        .fails_with(125, "is not running")?;
    done(world, &["start", container.name()])?;
    container.wait_status("exited")?;
    let logs = world.isolazi(["logs", container.name()]).output()?;
    logs.success()?.stdout_is("ran\n")?;
    Ok(())
}

fn a_stopped_container_starts_again_with_its_changes(world: &World) -> Result<()> {
    let script = "echo $(cat /count 2>/dev/null)x >/count; cat /count; sleep 1000";
    let container = create(world, &[], &["sh", "-c", script])?;
    for said in ["x\n", "x\nxx\n"] {
        done(world, &["start", container.name()])?;
        container.wait_log(said)?;
        done(world, &["stop", "-t", "0", container.name()])?;
    }
    Ok(())
}

fn start_attaches_where_asked(world: &World) -> Result<()> {
    let container = create(world, &["-i"], &["sh", "-c", "cat; exit 4"])?;
    let output = world
        .isolazi(["start", "-a", "-i", container.name()])
        .stdin("typed\n")
        .output()?;
    output.code(4)?.stdout_is("typed\n")?;
    let two = world
        .isolazi(["start", "-a", container.name(), "other"])
        .output()?;
    two.fails_with(1, "only one")?;
    Ok(())
}

fn starting_what_runs_is_fine_and_attaches(world: &World) -> Result<()> {
    let script = "while [ ! -e /go ]; do echo waiting; sleep 0.05; done; echo went";
    let container = world.start(&[], &["sh", "-c", script])?;
    done(world, &["start", container.name()])?;
    let mut attached = world.isolazi(["start", "-a", container.name()]).spawn()?;
    attached.wait_for("waiting\n")?;
    container.touch("/go")?;
    attached.wait_for("went\n")?;
    attached.wait()?.success()?;
    Ok(())
}

fn a_container_is_restarted(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "echo started; exec sleep 1000"])?;
    let before = container.inspect()?["State"]["StartedAt"].clone();
    done(world, &["restart", "-t", "0", container.name()])?;
    let after = container.inspect()?;
    same(
        "status",
        &after["State"]["Status"].as_str(),
        &Some("running"),
    )?;
    ensure!(after["State"]["StartedAt"] != before, "it is the old one");
    container.wait_log("started\nstarted\n")
}

fn signals_by_name_and_number(world: &World) -> Result<()> {
    let script = "trap 'echo hup' HUP; trap 'echo usr1; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let container = world.start(&[], &["sh", "-c", script])?;
    container.wait_log("ready")?;
    done(world, &["kill", "-s", "SIGHUP", container.name()])?;
    container.wait_log("hup")?;
    done(world, &["kill", "--signal", "10", container.name()])?;
    let state = container.wait_status("exited")?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(9))?;
    let output = world.isolazi(["kill", container.name()]).output()?;
    output.fails_with(1, "is not running")?;
    let output = world
        .isolazi(["kill", "-s", "NOPE", container.name()])
        .output()?;
    output.fails_with(1, "NOPE")?;
    Ok(())
}

fn wait_gives_the_exit_code(world: &World) -> Result<()> {
    let script = "while [ ! -e /go ]; do sleep 0.05; done; exit 6";
    let container = world.start(&[], &["sh", "-c", script])?;
    let waiting = world.isolazi(["wait", container.name()]).spawn()?;
    container.touch("/go")?;
    waiting.wait()?.success()?.stdout_is("6\n")?;
    let again = world.isolazi(["wait", container.name()]).output()?;
    again.success()?.stdout_is("6\n")?;
    Ok(())
}

/// How far the container has counted.
fn count(world: &World, container: &Container<'_>) -> Result<usize> {
    let logs = world.isolazi(["logs", container.name()]).output()?;
    Ok(logs.success()?.stdout.len())
}

fn a_paused_container_stands_still(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "while :; do echo; sleep 0.02; done"])?;
    container.wait_log("\n\n")?;
    done(world, &["pause", container.name()])?;
    let described = container.inspect()?;
    same(
        "status",
        &described["State"]["Status"].as_str(),
        &Some("paused"),
    )?;
    let before = count(world, &container)?;
    std::thread::sleep(Duration::from_millis(300));
    same("lines while paused", &count(world, &container)?, &before)?;
    for (args, text) in [
        (&["pause", container.name()][..], "already paused"),
        (&["start", container.name()], "is paused"),
        (&["rm", container.name()], "is running"),
    ] {
        world.isolazi(args).output()?.fails_with(1, text)?;
    }
    container
        .exec(&[], &["true"])
        .output()?
        .fails_with(125, "is paused")?;
    let listed = world.isolazi(["ps"]).output()?.success()?;
    listed.stdout_has("(Paused)")?;
    done(world, &["unpause", container.name()])?;
    eventually(world.patience(10), "it counts on", || {
        Ok((count(world, &container)? > before).then_some(()))
    })?;
    let output = world.isolazi(["unpause", container.name()]).output()?;
    output.fails_with(1, "is not paused")?;
    Ok(())
}

fn a_paused_container_can_be_stopped(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    done(world, &["pause", container.name()])?;
    done(world, &["stop", "-t", "1", container.name()])?;
    let state = container.wait_status("exited")?;
    same(
        "exit code",
        &state["State"]["ExitCode"].as_i64(),
        &Some(137),
    )?;
    done(world, &["start", container.name()])?;
    done(world, &["pause", container.name()])?;
    done(world, &["kill", container.name()])?;
    container.wait_status("exited").map(drop)
}

fn a_renamed_container_answers_to_its_new_name_only(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let other = world.start(&[], &["true"])?;
    let renamed = world.container();
    done(world, &["rename", container.name(), renamed.name()])?;
    same(
        "name",
        &renamed.inspect()?["Name"].as_str(),
        &Some(renamed.name()),
    )?;
    renamed.exec(&[], &["true"]).output()?.success()?;
    let output = world.isolazi(["inspect", container.name()]).output()?;
    output.fails_with(1, container.name())?;
    for (name, text) in [(other.name(), "taken"), ("a/b", "name")] {
        let output = world.isolazi(["rename", renamed.name(), name]).output()?;
        output.fails_with(1, text)?;
    }
    // The old name is free.
    done(
        world,
        &[
            "create",
            "--name",
            container.name(),
            &world.busybox(),
            "true",
        ],
    )
}

fn exec_in_the_background(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let output = container
        .exec(
            &["-d"],
            &["sh", "-c", "sleep 0.2; echo later >/mark; sleep 100"],
        )
        .output()?
        .success()?
        .stdout_is("")?;
    ensure!(output.elapsed < world.patience(10), "it was waited for");
    eventually(world.patience(20), "the mark", || {
        let output = container.exec(&[], &["cat", "/mark"]).output()?;
        Ok((output.stdout == b"later\n").then_some(()))
    })?;
    container
        .exec(&["-d"], &["no-such-command"])
        .output()?
        .fails_with(127, "no-such-command")?;
    Ok(())
}

fn attached_streams_come_and_go(world: &World) -> Result<()> {
    let script = "while read line; do echo got $line; done; echo end";
    let container = create(world, &["-i"], &["sh", "-c", script])?;
    done(world, &["start", container.name()])?;
    let attach = || {
        world
            .isolazi(["attach", container.name()])
            .hold_stdin()
            .spawn()
    };
    let mut first = attach()?;
    first.write(b"one\n")?;
    first.wait_for("got one\n")?;
    first.signal(Signal::KILL)?;
    drop(first);
    let mut second = attach()?;
    second.write(b"two\n")?;
    second.wait_for("got two\n")?;
    second.close_stdin();
    second.wait()?.success()?.stdout_is("got two\nend\n")?;
    let logs = world.isolazi(["logs", container.name()]).output()?;
    logs.success()?.stdout_is("got one\ngot two\nend\n")?;
    let output = world.isolazi(["attach", container.name()]).output()?;
    output.fails_with(1, "is not running")?;
    Ok(())
}

fn a_terminal_is_left_by_its_keys(world: &World) -> Result<()> {
    let container = world.container();
    let mut session = world
        .isolazi([
            "run",
            "-it",
            "--name",
            container.name(),
            &world.busybox(),
            "sh",
        ])
        .on_terminal(30, 90)?;
    session.wait_for("#")?;
    session.type_in("echo fir''st\n")?;
    session.wait_for("first")?;
    session.type_in("\x10\x11")?;
    same("exit code", &session.wait()?.code(), &Some(0))?;
    let state = container.inspect()?;
    same(
        "status",
        &state["State"]["Status"].as_str(),
        &Some("running"),
    )?;
    let mut session = world
        .isolazi(["attach", "--detach-keys", "ctrl-x", container.name()])
        .on_terminal(30, 90)?;
    session.type_in("echo sec''ond; exit 7\n")?;
    session.wait_for("second")?;
    same("exit code", &session.wait()?.code(), &Some(7))?;
    let output = world
        .isolazi(["attach", "--detach-keys", "ctrl", container.name()])
        .output()?;
    ensure!(
        !output.is_success() && output.stderr_text().contains("ctrl-p"),
        "{}",
        output.complaint("bad keys")
    );
    Ok(())
}

fn on_failure_is_tried_again_so_many_times(world: &World) -> Result<()> {
    let options = ["--restart", "on-failure:2"];
    let container = world.start(&options, &["sh", "-c", "echo try; exit 4"])?;
    container.wait_log("try\ntry\ntry\n")?;
    let state = container.wait_status("exited")?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(4))?;
    let logs = world.isolazi(["logs", container.name()]).output()?;
    logs.success()?.stdout_is("try\ntry\ntry\n")?;
    let fine = world.start(&options, &["sh", "-c", "echo once"])?;
    fine.wait_status("exited")?;
    let logs = world.isolazi(["logs", fine.name()]).output()?;
    logs.success()?.stdout_is("once\n")?;
    Ok(())
}

fn always_means_until_it_is_stopped(world: &World) -> Result<()> {
    let container = world.start(&["--restart", "always"], &["sh", "-c", "echo run"])?;
    container.wait_log("run\nrun\nrun\n")?;
    done(world, &["stop", container.name()])?;
    let state = container.wait_status("exited")?;
    let policy = &state["HostConfig"]["RestartPolicy"]["Name"];
    same("policy", &policy.as_str(), &Some("always"))?;
    let before = count(world, &container)?;
    std::thread::sleep(Duration::from_millis(500));
    same("output", &count(world, &container)?, &before)
}

fn a_policy_can_be_changed(world: &World) -> Result<()> {
    let script = "echo run; while [ ! -e /go ]; do sleep 0.05; done; rm /go; exit 1";
    let container = world.start(&[], &["sh", "-c", script])?;
    container.wait_log("run\n")?;
    done(
        world,
        &["update", "--restart", "on-failure", container.name()],
    )?;
    container.touch("/go")?;
    container.wait_log("run\nrun\n")?;
    let state = container.wait_status("running")?;
    let policy = &state["HostConfig"]["RestartPolicy"]["Name"];
    same("policy", &policy.as_str(), &Some("on-failure"))
}

fn logs_of_a_part(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "seq 1 100; printf end"])?;
    container.wait_status("exited")?;
    let logs = |options: &[&str]| {
        let logs = world.isolazi(["logs"]).args(options);
        logs.args([container.name()]).output()
    };
    logs(&["--tail", "3"])?
        .success()?
        .stdout_is("99\n100\nend")?;
    logs(&["-n", "0"])?.success()?.stdout_is("")?;
    logs(&["--since", "1h"])?
        .success()?
        .stdout_has("100\nend")?;
    logs(&["--until", "1h"])?.success()?.stdout_is("")?;
    logs(&["--since", "2100-01-01"])?.success()?.stdout_is("")?;
    let stamped = logs(&["-t", "-n", "1"])?.success()?.stdout_text();
    ensure!(
        stamped.ends_with("Z end") && stamped.starts_with("20"),
        "{stamped}"
    );
    logs(&["--tail", "many"])?.fails_with(1, "many")?;
    logs(&["--since", "yesterday"])?.fails_with(1, "yesterday")?;
    Ok(())
}

fn volumes_are_there_after_a_restart(world: &World) -> Result<()> {
    let folder = world.temp()?;
    std::fs::write(folder.path().join("file"), "from host\n")?;
    let volume = format!("{}:/mnt:ro", folder.path().display());
    let container = create(world, &["-v", &volume], &["cat", "/mnt/file"])?;
    for _ in 0..2 {
        let output = world.isolazi(["start", "-a", container.name()]).output()?;
        output.success()?.stdout_is("from host\n")?;
    }
    Ok(())
}

fn contradictions_are_refused(world: &World) -> Result<()> {
    let image = world.busybox();
    for (args, code, text) in [
        (
            &["run", "--rm", "--restart", "always", &image, "true"][..],
            125,
            "--rm",
        ),
        (
            &["run", "-d", "--restart", "sometimes", &image, "true"],
            2,
            "unless-stopped",
        ),
        (&["create", "-d", &image, "true"], 1, "-d"),
        (&["start", "no-such-one"], 1, "no-such-one"),
        (&["wait", "no-such-one"], 1, "no-such-one"),
        (&["rename", "no-such-one", "other"], 1, "no-such-one"),
        (&["attach", "no-such-one"], 1, "no-such-one"),
        (
            &["update", "--restart", "no", "no-such-one"],
            1,
            "no-such-one",
        ),
    ] {
        let output = world.isolazi(args).output()?.code(code)?;
        output.stderr_has(text)?;
    }
    Ok(())
}

fn a_boot_brings_back_what_is_to_come_back(world: &World) -> Result<()> {
    let start = |policy: &str| world.start(&["--restart", policy], &["sleep", "1000"]);
    let (always, unless, never) = (start("always")?, start("unless-stopped")?, start("no")?);
    let stopped = start("unless-stopped")?;
    done(world, &["stop", "-t", "0", stopped.name()])?;
    let passing = world.start(&["--rm"], &["sleep", "1000"])?;
    // As a `run` leaves it that the machine's end has cut short.
    let begun = world.isolazi(["create", "--rm", "--name", "begun", &world.image("busybox")]);
    begun.output()?.success()?;
    let vm = |verb: &str| world.bare(["vm", verb]).output()?.success();
    vm("stop")?;
    vm("start")?;
    always.wait_status("running")?;
    unless.wait_status("running")?;
    never.wait_status("exited")?;
    stopped.wait_status("exited")?;
    eventually(world.patience(10), "--rm is kept", || {
        Ok((!passing.is_listed()?).then_some(()))
    })?;
    eventually(world.patience(10), "begun is kept", || {
        let listed = world.isolazi(["ps", "-aq", "--filter", "name=begun"]);
        Ok(listed.output()?.stdout_text().is_empty().then_some(()))
    })
}
