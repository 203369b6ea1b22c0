//! `-t`: a terminal inside for the one outside.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same, tool};
use isolazi_tests::terminal::Session;
use isolazi_tests::{Case, Container, World, host};
use rustix::process::{Signal, kill_process};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_terminal_is_one_inside,
            without_t_there_is_none,
            its_size_is_passed_and_follows,
            a_typed_interrupt_reaches_the_process,
            a_shell_can_be_used,
            a_plain_run_on_a_terminal_is_interactive,
            exec_has_a_terminal_too,
            the_outer_terminal_is_left_as_it_was,
            the_end_of_input_can_be_typed,
            a_shell_controls_its_jobs,
            a_killed_process_gives_the_terminal_back,
            a_terminated_command_gives_the_terminal_back,
            a_hangup_ends_the_command,
        ],
        NativeOnly: [
            a_killed_shim_gives_the_terminal_back,
        ],
        VmAlone: [
            a_stopped_machine_gives_the_terminal_back,
            a_killed_machine_gives_the_terminal_back,
        ],
    }
}

fn a_terminal_is_one_inside(world: &World) -> Result<()> {
    let script = "test -t 0 && test -t 1 && test -t 2 && tty && echo TERM=$TERM";
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", script])
        .on_terminal(24, 80)?;
    session.wait_for("/dev/")?;
    session.wait_for("TERM=xterm")?;
    same("exit code", &session.wait()?.code(), &Some(0))
}

fn without_t_there_is_none(world: &World) -> Result<()> {
    let output = world
        .sh("test -t 0 || test -t 1 || test -t 2 || echo none")
        .output()?;
    output.success()?.stdout_is("none\n")?;
    // -t without a terminal outside still makes one inside.
    let output = world
        .run_with(&["-t"], ["sh", "-c", "test -t 1 && echo one"])
        .output()?;
    output.success()?.stdout_is("one\r\n")?;
    Ok(())
}

fn its_size_is_passed_and_follows(world: &World) -> Result<()> {
    let script =
        "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", script])
        .on_terminal(31, 97)?;
    session.wait_for("31 97")?;
    session.wait_for("ready")?;
    session.resize(43, 111)?;
    session.wait_for("43 111")?;
    same("exit code", &session.wait()?.code(), &Some(4))
}

fn a_typed_interrupt_reaches_the_process(world: &World) -> Result<()> {
    let script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", script])
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    session.type_in("\x03")?;
    session.wait_for("interrupted")?;
    same("exit code", &session.wait()?.code(), &Some(9))
}

fn a_shell_can_be_used(world: &World) -> Result<()> {
    let mut session = world.run_with(&["-it"], ["sh"]).on_terminal(24, 80)?;
    session.type_in("echo $((6 * 7))\n")?;
    session.wait_for("42")?;
    session.type_in("sh -c 'echo sl\"\"eeping; exec sleep 1000'\n")?;
    session.wait_for("sleeping")?;
    session.type_in("\x03")?;
    session.type_in("echo $((6 * 9))\n")?;
    session.wait_for("54")?;
    session.type_in("exit 11\n")?;
    same("exit code", &session.wait()?.code(), &Some(11))
}

fn a_plain_run_on_a_terminal_is_interactive(world: &World) -> Result<()> {
    let mut session = world.run(["sh"]).on_terminal(24, 80)?;
    session.type_in("test -t 0 && echo is-$((1 + 1))-a-terminal; exit 12\n")?;
    session.wait_for("is-2-a-terminal")?;
    same("exit code", &session.wait()?.code(), &Some(12))
}

fn exec_has_a_terminal_too(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let script = "tty; stty size; echo ready; read line; echo \"line is $line\"; exit 13";
    let mut session = container
        .exec(&["-it"], &["sh", "-c", script])
        .on_terminal(20, 60)?;
    session.wait_for("20 60")?;
    session.wait_for("ready")?;
    session.type_in("typed\n")?;
    session.wait_for("line is typed")?;
    same("exit code", &session.wait()?.code(), &Some(13))
}

fn the_outer_terminal_is_left_as_it_was(world: &World) -> Result<()> {
    // Raw while it runs, cooked again afterwards, also when it failed.
    let script = "before=$(stty -g); \"$@\"; test \"$before\" = \"$(stty -g)\" && echo un''changed";
    for command in ["true", "no-such-command"] {
        let mut session = world
            .run_with(&["-it"], [command])
            .through("sh", &["-c", script, "sh"])
            .on_terminal(24, 80)?;
        session.wait_for("unchanged")?;
        session.wait()?;
    }
    Ok(())
}

fn the_end_of_input_can_be_typed(world: &World) -> Result<()> {
    let mut session = world
        .run_with(
            &["-it"],
            ["sh", "-c", "echo ready; cat; echo the end; exit 5"],
        )
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    session.type_in("typed\n")?;
    // Once as an echo, and once by cat.
    let twice = || Ok((session.shown().matches("typed").count() == 2).then_some(()));
    eventually(world.patience(20), "cat has written", twice)?;
    session.type_in("\x04")?;
    session.wait_for("the end")?;
    same("exit code", &session.wait()?.code(), &Some(5))
}

fn a_shell_controls_its_jobs(world: &World) -> Result<()> {
    let mut session = world.run_with(&["-it"], ["sh"]).on_terminal(24, 80)?;
    session.type_in("sleep 1000 &\n")?;
    session.type_in("jobs; echo lis''ted\n")?;
    session.wait_for("listed")?;
    ensure!(session.shown().contains("Running"), "{}", session.shown());
    session.type_in("fg; echo from the fore''ground: $?\n")?;
    // What is typed reaches the job, and no longer the shell.
    session.wait_for("sleep 1000\r\n")?;
    std::thread::sleep(Duration::from_millis(200));
    session.type_in("\x1a")?;
    session.wait_for("Stopped")?;
    session.type_in("fg\n")?;
    std::thread::sleep(Duration::from_millis(200));
    session.type_in("\x03")?;
    session.type_in("echo $?; exit 6\n")?;
    session.wait_for("130")?;
    same("exit code", &session.wait()?.code(), &Some(6))
}

/// A shell on a raw terminal.
fn attached(world: &World) -> Result<(Container<'_>, Session)> {
    let container = world.container();
    let run = world.isolazi(["run", "-it", "--name", container.name(), &world.busybox()]);
    let mut session = run.args(["sh"]).on_terminal(24, 80)?;
    session.type_in("echo rea''dy\n")?;
    session.wait_for("ready")?;
    ensure!(session.is_raw()?, "the terminal does not pass keys on");
    Ok((container, session))
}

/// The command ends with `code`, and the terminal is what it was.
fn gives_back(session: &mut Session, code: i32) -> Result<()> {
    same("exit code", &session.wait()?.code(), &Some(code))?;
    ensure!(session.is_as_before()?, "the terminal is not restored");
    Ok(())
}

fn a_killed_process_gives_the_terminal_back(world: &World) -> Result<()> {
    let (container, mut session) = attached(world)?;
    world
        .isolazi(["kill", container.name()])
        .output()?
        .success()?;
    gives_back(&mut session, 137)
}

fn a_killed_shim_gives_the_terminal_back(world: &World) -> Result<()> {
    let (container, mut session) = attached(world)?;
    let pid = container.inspect()?["State"]["Pid"].as_i64();
    let shim = host::parent(pid.context("no pid")?)?;
    kill_process(shim, Signal::KILL)?;
    gives_back(&mut session, 125)?;
    complains(&session)
}

/// Says why it ended, last of all.
fn complains(session: &Session) -> Result<()> {
    // The harness's own reader may be a moment behind.
    session.wait_for("isolazi: ")?;
    let shown = session.shown();
    let last = shown.trim_end().lines().last().unwrap_or_default();
    // The cursor may stand behind a prompt.
    ensure!(last.contains("isolazi: "), "{shown}");
    Ok(())
}

fn a_terminated_command_gives_the_terminal_back(world: &World) -> Result<()> {
    // The process is told, and may do as it likes.
    let script = "trap 'echo told; exit 21' TERM; echo ready; while :; do sleep 0.05; done";
    let mut session = world
        .run_with(&["-it"], ["sh", "-c", script])
        .on_terminal(24, 80)?;
    session.wait_for("ready")?;
    session.signal(Signal::TERM)?;
    session.wait_for("told")?;
    gives_back(&mut session, 21)?;
    // One that does not listen is left to itself in the end.
    let (container, mut session) = attached(world)?;
    for _ in 0..4 {
        session.signal(Signal::TERM)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    gives_back(&mut session, 125)?;
    complains(&session)?;
    same(
        "status",
        &container.inspect()?["State"]["Status"].as_str(),
        &Some("running"),
    )
}

/// Whoever closes the window is gone, so nobody is left to wait for the end of
/// the container: it is told, and runs on where that does not end it.
fn a_hangup_ends_the_command(world: &World) -> Result<()> {
    let container = world.container();
    let run = world.isolazi(["run", "-it", "--name", container.name(), &world.busybox()]);
    let script = "trap 'echo told >/told' HUP; echo ready; while :; do sleep 0.05; done";
    let mut session = run.args(["sh", "-c", script]).on_terminal(24, 80)?;
    session.wait_for("ready")?;
    session.signal(Signal::HUP)?;
    gives_back(&mut session, 129)?;
    let told = || {
        Ok(container
            .exec(&[], &["cat", "/told"])
            .output()?
            .is_success()
            .then_some(()))
    };
    eventually(world.patience(20), "the process is told", told)
}

fn a_stopped_machine_gives_the_terminal_back(world: &World) -> Result<()> {
    let (_container, mut session) = attached(world)?;
    let stop = world.bare(["vm", "stop"]);
    stop.timeout(Duration::from_secs(60)).output()?.success()?;
    session.wait()?;
    ensure!(session.is_as_before()?, "the terminal is not restored");
    world.run(["true"]).output()?.success()?;
    Ok(())
}

fn a_killed_machine_gives_the_terminal_back(world: &World) -> Result<()> {
    let (_container, mut session) = attached(world)?;
    let root = world.root().display().to_string();
    let qemu = tool("pgrep", ["-f", &format!("qemu-system.*{root}")])?;
    tool("kill", ["-9", qemu.trim()])?;
    gives_back(&mut session, 125)?;
    complains(&session)?;
    world.run(["true"]).output()?.success()?;
    Ok(())
}
