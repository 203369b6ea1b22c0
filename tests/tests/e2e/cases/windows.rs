//! The Windows program, under wine where that is installed.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::surroundings::is_ci;
use isolazi_tests::wine::{Wine, lacks};
use isolazi_tests::{Case, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Wsl2Alone: [
            the_windows_program_starts,
        ],
    }
}

/// One case, as a Windows takes long to be made.
fn the_windows_program_starts(world: &World) -> Result<()> {
    if let Some(reason) = lacks() {
        ensure!(!is_ci(), "the Windows program cannot be tested: {reason}");
        eprintln!("skipped: the Windows program: {reason}");
        return Ok(());
    }
    let wine = Wine::new(world)?;
    says_what_it_is(&wine)?;
    wine.start_machine()?;
    looks_at_itself(&wine)?;
    pulls(&wine, world)?;
    runs(&wine, world)?;
    shares(&wine, world)?;
    reads_files_of_windows(&wine, world)?;
    is_interrupted(&wine, world)
}

fn says_what_it_is(wine: &Wine) -> Result<()> {
    wine.isolazi(["--help"])
        .output()?
        .success()?
        .stdout_has("Usage: isolazi")?;
    wine.isolazi(["version"])
        .output()?
        .success()?
        .stdout_has("isolazi")?;
    wine.isolazi(["images"])
        .output()?
        .success()?
        .stdout_has("REPOSITORY")?;
    let status = wine.isolazi(["vm", "status", "--format", "{{.State}}"]);
    status.output()?.success()?.stdout_has("stopped")?;
    wine.isolazi(["no-such-verb"]).output()?.code(2)?;
    Ok(())
}

fn looks_at_itself(wine: &Wine) -> Result<()> {
    let doctor = wine.isolazi(["doctor"]).output()?.success()?;
    doctor.stdout_has("windows")?.stdout_has("kernel: Linux ")?;
    Ok(())
}

fn pulls(wine: &Wine, world: &World) -> Result<()> {
    wine.isolazi(["pull", &world.busybox()])
        .output()?
        .success()?;
    wine.isolazi(["images"])
        .output()?
        .success()?
        .stdout_has("busybox")?;
    let root = wine.drive().join("users/Jörg Müller/isolazi data");
    ensure!(root.join("images/blobs/sha256").is_dir(), "kept elsewhere");
    Ok(())
}

fn runs(wine: &Wine, world: &World) -> Result<()> {
    let busybox = world.busybox();
    let run = |words: &[&str]| wine.isolazi(["run", "--rm", &busybox]).args(words);
    run(&["echo", "Grüße aus Linux"])
        .output()?
        .success()?
        .stdout_is("Grüße aus Linux\n")?;
    run(&["sh", "-c", "exit 42"]).output()?.code(42)?;
    run(&["no-such-command"]).output()?.code(127)?;
    let cat = wine.isolazi(["run", "--rm", "-i", &busybox, "cat"]);
    cat.stdin("a\r\nb\n")
        .output()?
        .success()?
        .stdout_is("a\r\nb\n")?;
    wine.isolazi(["run", "-d", "--name", "wine", &busybox, "sleep", "1000"])
        .output()?
        .success()?;
    let exec = wine.isolazi(["exec", "wine", "hostname"]);
    exec.output()?.success()?;
    wine.isolazi(["ps"])
        .output()?
        .success()?
        .stdout_has("wine")?;
    wine.isolazi(["rm", "-f", "wine"]).output()?.success()?;
    Ok(())
}

fn shares(wine: &Wine, world: &World) -> Result<()> {
    let folder = wine.drive().join("ä b");
    fs::create_dir(&folder)?;
    fs::write(folder.join("file"), "content")?;
    let busybox = world.busybox();
    let run = wine.isolazi(["run", "--rm", "-v", r"C:\ä b:/data", &busybox]);
    let run = run.args(["sh", "-c", "cat /data/file; echo 1 > /data/new"]);
    run.output()?.success()?.stdout_is("content")?;
    same(
        "content",
        &fs::read_to_string(folder.join("new"))?.as_str(),
        &"1\n",
    )?;
    let network = wine.isolazi(["run", "--rm", "-v", r"C:\no such:/data", &busybox]);
    network.output()?.fails_with(125, "does not exist")?;
    Ok(())
}

fn reads_files_of_windows(wine: &Wine, world: &World) -> Result<()> {
    fs::write(
        wine.drive().join("env"),
        "A=1\r\n# comment\r\n\r\nB=x y\r\n",
    )?;
    let busybox = world.busybox();
    let run = wine.isolazi(["run", "--rm", "--env-file", r"C:\env", &busybox]);
    let run = run.args(["sh", "-c", "printf '%s|%s|' \"$A\" \"$B\""]);
    run.output()?.success()?.stdout_is("1|x y|")?;
    Ok(())
}

/// wine makes a SIGINT a Ctrl-C.
fn is_interrupted(wine: &Wine, world: &World) -> Result<()> {
    let script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.1; done";
    let busybox = world.busybox();
    let run = wine.isolazi(["run", "--rm", &busybox, "sh", "-c", script]);
    let mut running = run.spawn()?;
    running.wait_for("ready")?;
    running.signal(Signal::INT)?;
    running.wait()?.code(7)?.stdout_has("interrupted")?;
    Ok(())
}
