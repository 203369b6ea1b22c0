//! From `run -d` to `rm`: what is listed, logged, stopped and gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_detached_container_prints_its_id,
            ps_lists_what_runs_and_all_with_a,
            logs_have_both_outputs,
            logs_follow_until_the_end,
            stop_sends_the_images_signal,
            stop_kills_what_does_not_listen,
            stop_of_what_is_stopped_is_fine,
            rm_refuses_what_runs,
            rm_takes_everything_away,
            rm_option_removes_it_at_its_end,
            inspect_has_dockers_fields,
            several_at_once,
            an_unknown_container_is_named,
            a_failed_start_leaves_no_container,
            the_log_outlives_the_container,
        ],
    }
}

fn a_detached_container_prints_its_id(world: &World) -> Result<()> {
    let container = world.container();
    let output = world
        .isolazi([
            "run",
            "-d",
            "--name",
            container.name(),
            &world.busybox(),
            "sleep",
            "1000",
        ])
        .output()?
        .success()?
        .stderr_is("")?;
    let id = output.stdout_text().trim_end().to_owned();
    ensure!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{}",
        output.complaint("expected an id of 64 hexadecimal digits")
    );
    same("Id", &container.inspect()?["Id"].as_str(), &Some(&*id))
}

fn ps_lists_what_runs_and_all_with_a(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let ended = world.start(&[], &["sh", "-c", "exit 3"])?;
    ended.wait_status("exited")?;
    let listed = world.isolazi(["ps"]).output()?.success()?;
    let listed = listed
        .stdout_has("CONTAINER ID")?
        .stdout_has(container.name())?
        .stdout_lacks(ended.name())?;
    let line = line_of(&listed.stdout_text(), container.name());
    ensure!(
        line.contains("Up ") && line.contains("sleep 1000") && line.contains(&world.busybox()),
        "{line}"
    );
    let listed = world.isolazi(["ps", "-a"]).output()?.success()?;
    let text = listed.stdout_has(container.name())?.stdout_text();
    ensure!(
        line_of(&text, ended.name()).contains("Exited (3)"),
        "{text}"
    );
    let id = container.inspect()?["Id"].as_str().unwrap_or_default()[..12].to_owned();
    world
        .isolazi(["ps", "-q"])
        .output()?
        .success()?
        .stdout_has(&format!("{id}\n"))?;
    Ok(())
}

fn line_of(table: &str, name: &str) -> String {
    let mut lines = table.lines().filter(|line| line.contains(name));
    lines.next().unwrap_or_default().to_owned()
}

fn logs_have_both_outputs(world: &World) -> Result<()> {
    let script = "echo one; echo two >&2; printf three";
    let container = world.start(&[], &["sh", "-c", script])?;
    container.wait_status("exited")?;
    let output = world.isolazi(["logs", container.name()]).output()?;
    output
        .success()?
        .stdout_is("one\nthree")?
        .stderr_is("two\n")?;
    Ok(())
}

fn logs_follow_until_the_end(world: &World) -> Result<()> {
    let script = "echo early; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo late; exit 4";
    let container = world.start(&[], &["sh", "-c", script])?;
    let mut following = world.isolazi(["logs", "-f", container.name()]).spawn()?;
    following.wait_for("early\n")?;
    container.touch("/tmp/go")?;
    following.wait()?.success()?.stdout_is("early\nlate\n")?;
    let again = world.isolazi(["logs", "-f", container.name()]).output()?;
    again.success()?.stdout_is("early\nlate\n")?;
    Ok(())
}

fn stop_sends_the_images_signal(world: &World) -> Result<()> {
    let container = world.container();
    world
        .isolazi([
            "run",
            "-d",
            "--name",
            container.name(),
            "--entrypoint",
            "/bin/wait-usr1",
        ])
        .args([world.image("configured")])
        .output()?
        .success()?;
    container.wait_log("ready")?;
    let stopped = world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    ensure!(
        stopped.elapsed < Duration::from_secs(8),
        "took {:?}",
        stopped.elapsed
    );
    let state = container.wait_status("exited")?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(7))?;
    same(
        "StopSignal",
        &state["Config"]["StopSignal"].as_str(),
        &Some("SIGUSR1"),
    )?;
    container.wait_log("got USR1")
}

fn stop_kills_what_does_not_listen(world: &World) -> Result<()> {
    // PID 1 of a PID namespace gets no signal that it has no handler for.
    let container = world.start(&[], &["sleep", "1000"])?;
    let stopped = world
        .isolazi(["stop", "-t", "1", container.name()])
        .output()?
        .success()?;
    let (shortest, longest) = (Duration::from_millis(900), world.patience(8));
    ensure!(
        shortest < stopped.elapsed && stopped.elapsed < longest,
        "took {:?}",
        stopped.elapsed
    );
    let state = container.wait_status("exited")?;
    same(
        "exit code",
        &state["State"]["ExitCode"].as_i64(),
        &Some(137),
    )
}

fn stop_of_what_is_stopped_is_fine(world: &World) -> Result<()> {
    let container = world.start(&[], &["true"])?;
    container.wait_status("exited")?;
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    let state = container.inspect()?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(0))
}

fn rm_refuses_what_runs(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let output = world.isolazi(["rm", container.name()]).output()?;
    output.fails_with(1, "is running")?;
    ensure!(container.is_listed()?, "it is gone");
    world
        .isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    ensure!(!container.is_listed()?, "it is still listed");
    Ok(())
}

fn rm_takes_everything_away(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "echo x >/tmp/file"])?;
    container.wait_status("exited")?;
    let described = container.inspect()?;
    let id = described["Id"].as_str().unwrap_or_default().to_owned();
    world
        .isolazi(["rm", container.name()])
        .output()?
        .success()?;
    ensure!(!container.is_listed()?, "it is still listed");
    let folder = world.root().join("containers").join(id);
    ensure!(!folder.exists(), "{} is left", folder.display());
    let output = world.isolazi(["inspect", container.name()]).output()?;
    output.fails_with(1, container.name())?;
    Ok(())
}

fn rm_option_removes_it_at_its_end(world: &World) -> Result<()> {
    let container = world.start(&["--rm"], &["sleep", "1000"])?;
    ensure!(container.is_listed()?, "it is not listed while it runs");
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    ensure!(!container.is_listed()?, "it is still listed");
    Ok(())
}

fn inspect_has_dockers_fields(world: &World) -> Result<()> {
    let options = [
        "-e",
        "KEY=value",
        "-w",
        "/data",
        "-u",
        "alice",
        "--hostname",
        "box",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let is = container.inspect()?;
    same("Name", &is["Name"].as_str(), &Some(container.name()))?;
    same("Path", &is["Path"].as_str(), &Some("sleep"))?;
    same("Args", &is["Args"], &serde_json::json!(["1000"]))?;
    same("Status", &is["State"]["Status"].as_str(), &Some("running"))?;
    same("Running", &is["State"]["Running"].as_bool(), &Some(true))?;
    ensure!(
        is["State"]["Pid"].as_i64() > Some(1),
        "Pid is {}",
        is["State"]["Pid"]
    );
    let config = &is["Config"];
    same("Image", &config["Image"].as_str(), &Some(&*world.busybox()))?;
    same("Hostname", &config["Hostname"].as_str(), &Some("box"))?;
    same("User", &config["User"].as_str(), &Some("alice"))?;
    same("WorkingDir", &config["WorkingDir"].as_str(), &Some("/data"))?;
    let environment = config["Env"].to_string();
    ensure!(environment.contains("KEY=value"), "Env is {environment}");
    let isolation = if world.is_vm() { "vm" } else { "process" };
    same("Isolation", &is["Isolation"].as_str(), &Some(isolation))?;
    let image = is["Image"].as_str().unwrap_or_default();
    ensure!(image.starts_with("sha256:"), "Image is {image}");
    Ok(())
}

fn several_at_once(world: &World) -> Result<()> {
    let one = world.start(&[], &["sleep", "1000"])?;
    let two = world.start(&[], &["sleep", "1000"])?;
    let both = [one.name(), two.name()];
    let described = world
        .isolazi(["inspect"])
        .args(both)
        .output()?
        .success()?
        .json()?;
    same("described", &described.as_array().map(Vec::len), &Some(2))?;
    world
        .isolazi(["stop", "-t", "0"])
        .args(both)
        .output()?
        .success()?;
    // What can be removed is, and what cannot is named.
    let output = world
        .isolazi(["rm", one.name(), "no-such-one", two.name()])
        .output()?;
    output.fails_with(1, "no-such-one")?;
    ensure!(
        !one.is_listed()? && !two.is_listed()?,
        "one of them is left"
    );
    Ok(())
}

fn an_unknown_container_is_named(world: &World) -> Result<()> {
    for verb in ["stop", "rm", "inspect", "logs"] {
        let output = world.isolazi([verb, "no-such-container"]).output()?;
        output.fails_with(1, "no-such-container")?;
    }
    Ok(())
}

fn a_failed_start_leaves_no_container(world: &World) -> Result<()> {
    for command in ["no-such-command", "/etc/passwd"] {
        let container = world.container();
        let output = world
            .run_with(&["--name", container.name()], [command])
            .output()?;
        ensure!(
            !output.stderr.is_empty(),
            "{}",
            output.complaint("it says nothing")
        );
        ensure!(!container.is_listed()?, "{command} left a container");
    }
    Ok(())
}

fn the_log_outlives_the_container(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "seq 1 20000; exit 5"])?;
    let state = container.wait_status("exited")?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(5))?;
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let log = world
        .isolazi(["logs", container.name()])
        .output()?
        .success()?;
    ensure!(
        log.stdout == expected.as_bytes(),
        "{}",
        log.complaint("the log is not whole")
    );
    Ok(())
}
