//! `run`: what a container starts with and how it ends.

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            hello_says_what_it_sees,
            echo,
            exit_codes_are_the_commands_own,
            a_signal_that_ends_it_is_128_and_more,
            a_command_that_is_not_there_is_127,
            a_command_that_cannot_be_executed_is_126,
            a_failure_of_ours_is_125,
            environment,
            environment_from_the_host,
            working_directory,
            host_name,
            users,
            entrypoint,
            names_are_unique,
            ten_at_once,
            changes_stay_in_the_container,
            etc_files_are_there_and_writable,
        ],
    }
}

fn hello_says_what_it_sees(world: &World) -> Result<()> {
    let output = world
        .isolazi(["run", "--rm", "hello"])
        .output()?
        .success()?;
    let said = output.stdout_text().to_lowercase();
    for word in ["pid", "host", "user", "kernel", "seccomp"] {
        ensure!(said.contains(word), "hello says nothing of {word}: {said}");
    }
    Ok(())
}

fn echo(world: &World) -> Result<()> {
    let output = world
        .run(["echo", "Hello from a container", "twice"])
        .output()?;
    output
        .success()?
        .stdout_is("Hello from a container twice\n")?
        .stderr_is("")?;
    Ok(())
}

fn exit_codes_are_the_commands_own(world: &World) -> Result<()> {
    for code in [0, 1, 3, 42, 125, 126, 127, 128, 255] {
        let output = world.sh(&format!("exit {code}")).output()?;
        output.code(code)?.stdout_is("")?.stderr_is("")?;
    }
    Ok(())
}

fn a_signal_that_ends_it_is_128_and_more(world: &World) -> Result<()> {
    // PID 1 of a namespace ignores what it has no handler for, except from
    // outside: so a child dies of it, and the shell passes that on.
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let script = format!("sh -c 'kill -{signal} $$'; exit $?");
        world.sh(&script).output()?.code(code)?;
    }
    let container = world.start(&[], &["sleep", "1000"])?;
    container.exec(&[], &["kill", "-9", "1"]).output()?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    let state = container.wait_status("exited")?;
    same(
        "exit code",
        &state["State"]["ExitCode"].as_i64(),
        &Some(137),
    )
}

fn a_command_that_is_not_there_is_127(world: &World) -> Result<()> {
    let output = world.run(["no-such-command", "x"]).output()?;
    output.fails_with(127, "no-such-command")?;
    let output = world.run(["/bin/no/such/command"]).output()?;
    output.fails_with(127, "/bin/no/such/command")?;
    Ok(())
}

fn a_command_that_cannot_be_executed_is_126(world: &World) -> Result<()> {
    world
        .run(["/data/file"])
        .output()?
        .fails_with(126, "/data/file")?;
    world.run(["/etc"]).output()?.fails_with(126, "/etc")?;
    Ok(())
}

fn a_failure_of_ours_is_125(world: &World) -> Result<()> {
    let output = world.run_with(&["-u", "no-such-user"], ["true"]).output()?;
    output.fails_with(125, "no-such-user")?;
    let output = world
        .run_with(&["-v", "/no/such/folder:/x"], ["true"])
        .output()?;
    output.fails_with(125, "/no/such/folder")?;
    Ok(())
}

fn environment(world: &World) -> Result<()> {
    let show = ["sh", "-c", "echo \"$ONE|$TWO|$THREE|$LIST|$EMPTY|$PATH\""];
    let options = [
        "-e",
        "ONE=1,TWO=2",
        "-e",
        "THREE=a = b",
        "--env",
        "LIST=x,y,z",
        "-e",
        "EMPTY=",
    ];
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    world
        .run_with(&options, show)
        .output()?
        .success()?
        .stdout_is(&format!("1|2|a = b|x,y,z||{path}\n"))?;
    Ok(())
}

fn environment_from_the_host(world: &World) -> Result<()> {
    let output = world
        .run_with(&["-e", "FROM_HOST", "-e", "NOT_THERE"], ["env"])
        .env("FROM_HOST", "here")
        .env("LEAKED", "secret")
        .output()?;
    output
        .success()?
        .stdout_has("FROM_HOST=here\n")?
        .stdout_lacks("NOT_THERE")?
        .stdout_lacks("LEAKED")?;
    Ok(())
}

fn working_directory(world: &World) -> Result<()> {
    for option in ["-w", "--workdir", "--cwd"] {
        let output = world.run_with(&[option, "/data"], ["pwd"]).output()?;
        output.success()?.stdout_is("/data\n")?;
    }
    let output = world
        .run_with(&["-w", "/made/where/missing"], ["pwd"])
        .output()?;
    output.success()?.stdout_is("/made/where/missing\n")?;
    let output = world.run_with(&["-w", "not/absolute"], ["pwd"]).output()?;
    output.fails_with(125, "not/absolute")?;
    Ok(())
}

fn host_name(world: &World) -> Result<()> {
    let script = [
        "sh",
        "-c",
        "hostname; cat /etc/hostname; grep -c 'box.example' /etc/hosts",
    ];
    let output = world
        .run_with(&["--hostname", "box.example"], script)
        .output()?;
    output
        .success()?
        .stdout_is("box.example\nbox.example\n1\n")?;
    let container = world.start(&[], &["sleep", "1000"])?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let named = container.exec(&[], &["hostname"]).output()?.success()?;
    named.stdout_is(&format!("{}\n", &id[..12]))?;
    Ok(())
}

fn users(world: &World) -> Result<()> {
    let show = ["sh", "-c", "id -u; id -g; id -G; echo $HOME"];
    for (user, shown) in [
        // As in Docker: a user's own groups where no group is named.
        ("alice", "1000\n1000\n1000 60 1001\n/home/alice\n"),
        ("alice:games", "1000\n60\n60\n/home/alice\n"),
        ("1000", "1000\n1000\n1000 60 1001\n/home/alice\n"),
        ("1000:1001", "1000\n1001\n1001\n/home/alice\n"),
        ("4242:4343", "4242\n4343\n4343\n/\n"),
        ("root", "0\n0\n0\n/root\n"),
    ] {
        let output = world.run_with(&["-u", user], show).output()?;
        output.success()?.stdout_is(shown)?;
    }
    Ok(())
}

fn entrypoint(world: &World) -> Result<()> {
    let output = world
        .run_with(&["--entrypoint", "echo"], ["a", "b"])
        .output()?;
    output.success()?.stdout_is("a b\n")?;
    let configured = world.image("configured");
    let output = world
        .isolazi([
            "run",
            "--rm",
            "--entrypoint",
            "",
            &configured,
            "echo",
            "plain",
        ])
        .output()?;
    output.success()?.stdout_is("plain\n")?;
    Ok(())
}

fn names_are_unique(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let again = [
        "run",
        "--rm",
        "--name",
        container.name(),
        &world.busybox(),
        "true",
    ];
    world
        .isolazi(again)
        .output()?
        .fails_with(125, container.name())?;
    world
        .isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    world.isolazi(again).output()?.success()?;
    let output = world
        .run_with(&["--name", "../climbing"], ["true"])
        .output()?;
    output.fails_with(125, "../climbing")?;
    Ok(())
}

fn ten_at_once(world: &World) -> Result<()> {
    let running = (0..10)
        .map(|n| {
            world
                .sh(&format!("echo {n}; echo e{n} >&2; exit {n}"))
                .timeout(world.patience(60))
                .spawn()
        })
        .collect::<Result<Vec<_>>>()?;
    for (n, run) in (0..).zip(running) {
        let output = run.wait()?.code(n)?;
        output
            .stdout_is(&format!("{n}\n"))?
            .stderr_is(&format!("e{n}\n"))?;
    }
    Ok(())
}

fn changes_stay_in_the_container(world: &World) -> Result<()> {
    let change = "rm /data/file && echo new >/etc/passwd && echo changed >/data/other";
    world.sh(change).output()?.success()?;
    let look = "cat /data/file; ls /data; head -n 1 /etc/passwd";
    let output = world.sh(look).output()?.success()?;
    output.stdout_is("from the image\nfile\nroot:x:0:0:root:/root:/bin/sh\n")?;
    Ok(())
}

fn etc_files_are_there_and_writable(world: &World) -> Result<()> {
    let script = "grep -c localhost /etc/hosts; test -f /etc/resolv.conf && echo 1.2.3.4 x >>/etc/hosts && tail -n 1 /etc/hosts";
    let output = world.sh(script).output()?.success()?;
    ensure!(
        output.stdout_text().ends_with("1.2.3.4 x\n"),
        "{}",
        output.complaint("/etc/hosts is not as it should be")
    );
    Ok(())
}
