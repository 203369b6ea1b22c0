//! `-t`: a terminal inside for the one outside.

use anyhow::Result;
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

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
