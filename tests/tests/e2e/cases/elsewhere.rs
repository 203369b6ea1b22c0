//! Machines that other hypervisors run: their starts and ends, what they share, and what
//! goes wrong.

use std::fs;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, Mode, World};
use rustix::process::{Pid, Signal, kill_process};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        ElsewhereAlone: [
            its_program_is_named_where_it_is_missing,
            a_folder_that_is_not_shared_names_the_setting,
            the_settings_say_what_is_shared,
            rosetta_is_refused_where_there_is_none,
            a_kernel_put_there_by_hand_is_booted,
            a_machine_goes_and_comes_back_with_what_it_had,
            a_machine_that_boots_can_be_stopped,
            another_supervisor_takes_the_machine_over,
            a_machine_whose_hypervisor_is_killed_is_started_again,
        ],
    }
}

/// For a boot and a pull.
const PATIENCE: Duration = Duration::from_secs(180);

fn state(world: &World) -> Result<String> {
    let status = world.bare(["vm", "status", "--format", "{{.State}}"]);
    Ok(status.output()?.success()?.stdout_text().trim().to_owned())
}

/// The process whose end is the machine's.
fn hypervisor(world: &World) -> Result<Pid> {
    let status = world.bare(["vm", "status", "--format", "{{.Pid}}"]);
    let pid = status.output()?.success()?.stdout_text();
    Pid::from_raw(pid.trim().parse()?).context("no process")
}

/// The process that looks after the machine: it holds the lock.
fn supervisor(world: &World) -> Result<Pid> {
    let root = world.root().display().to_string();
    let line = [
        "-x",
        "-f",
        &format!("isolazi-machine {root} {}", world.mode()),
    ];
    let pid = isolazi_tests::command::tool("pgrep", line)?;
    Pid::from_raw(pid.trim().parse()?).context("no process")
}

fn is_there(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn runs_again(world: &World) -> Result<()> {
    let echo = world.run(["echo", "again"]).timeout(PATIENCE);
    echo.output()?.success()?.stdout_is("again\n").map(drop)
}

fn its_program_is_named_where_it_is_missing(world: &World) -> Result<()> {
    let (_, program) = world.mode().stand_in().context("no program")?;
    let folder = world.temp()?;
    let start = world.fresh(folder.path()).bare(["vm", "start"]);
    let started = start.env("PATH", folder.path()).output()?;
    started.fails_with(1, program)?.stderr_has("brew install")?;
    Ok(())
}

fn a_folder_that_is_not_shared_names_the_setting(world: &World) -> Result<()> {
    let run = world.run_with(&["-v", "/etc:/mnt"], ["true"]);
    let output = run.output()?.fails_with(125, "shared-folders")?;
    output.stderr_has("config.toml")?.stderr_has("/etc")?;
    Ok(())
}

fn the_settings_say_what_is_shared(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    let shared = folder.path().join("sha red");
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("file"), "seen\n")?;
    fs::create_dir_all(own.root())?;
    let settings = format!(
        "[machine]\nshared-folders = [{:?}]\n",
        shared.display().to_string()
    );
    fs::write(own.root().join("config.toml"), settings)?;
    let seen = own.run_with(
        &["-v", &format!("{}:/mnt", shared.display())],
        ["cat", "/mnt/file"],
    );
    seen.timeout(PATIENCE)
        .output()?
        .success()?
        .stdout_is("seen\n")?;
    let hidden = own.run_with(
        &["-v", &format!("{}:/mnt", world.root().display())],
        ["true"],
    );
    hidden.output()?.fails_with(125, "shared-folders")?;
    own.bare(["vm", "stop"]).output()?.success()?;
    Ok(())
}

fn rosetta_is_refused_where_there_is_none(world: &World) -> Result<()> {
    if world.mode() == Mode::Vfkit && std::env::consts::ARCH == "aarch64" {
        return Ok(());
    }
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    fs::create_dir_all(own.root())?;
    fs::write(
        own.root().join("config.toml"),
        "[machine]\nrosetta = true\n",
    )?;
    let started = own.bare(["vm", "start"]).output()?;
    started
        .fails_with(1, "Apple silicon")?
        .stderr_has("config.toml")?;
    Ok(())
}

fn a_kernel_put_there_by_hand_is_booted(world: &World) -> Result<()> {
    if world.mode() != Mode::Vfkit {
        return Ok(());
    }
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    let place = folder.path().join("share/isolazi/vm");
    fs::create_dir_all(&place)?;
    let kernel = fs::read(world.shared().appliance.join("vmlinux"))?;
    let packed = fs::File::create(place.join("vmlinuz"))?;
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packed.write_all(&kernel)?;
    packed.finish()?;
    let start = || {
        let start = own.bare(["vm", "start"]);
        let start = start.env("XDG_DATA_HOME", folder.path().join("share"));
        start.timeout(PATIENCE).output()
    };
    start()?.success()?;
    let unpacked = own.root().join("machine/kernel");
    ensure!(fs::read(unpacked)? == kernel, "another kernel");
    own.bare(["vm", "stop"]).output()?.success()?;
    // What is no kernel does not boot, and that is told.
    fs::write(place.join("vmlinuz"), "MZ  zimg")?;
    start()?.fails_with(1, "vmlinuz")?;
    Ok(())
}

fn a_machine_goes_and_comes_back_with_what_it_had(world: &World) -> Result<()> {
    let ended = world.start(&[], &["sh", "-c", "echo said; exit 3"])?;
    ended.wait_status("exited")?;
    let hypervisor = hypervisor(world)?;
    let stop = || world.bare(["vm", "stop"]).timeout(PATIENCE).output();
    stop()?.success()?.stdout_is("stopped\n")?;
    ensure!(!is_there(hypervisor), "its process is left");
    same("state", &state(world)?.as_str(), &"stopped")?;
    stop()?.success()?.stdout_is("already stopped\n")?;
    runs_again(world)?;
    let logs = world.isolazi(["logs", ended.name()]).output()?;
    logs.success()?.stdout_is("said\n")?;
    Ok(())
}

fn a_machine_that_boots_can_be_stopped(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    let starting = own.bare(["vm", "start"]).timeout(PATIENCE).spawn()?;
    let booting = || Ok((state(&own)? == "booting").then_some(()));
    eventually(Duration::from_secs(20), "it boots", booting)?;
    own.bare(["vm", "stop"])
        .timeout(PATIENCE)
        .output()?
        .success()?;
    starting.wait()?.fails_with(1, "stopped while it booted")?;
    same("state", &state(&own)?.as_str(), &"stopped")
}

fn another_supervisor_takes_the_machine_over(world: &World) -> Result<()> {
    let counter = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.2; done";
    let container = world.start(&["-p", "127.0.0.1::80"], &["sh", "-c", counter])?;
    container.wait_log("3\n")?;
    let before = hypervisor(world)?;
    kill_process(supervisor(world)?, Signal::KILL)?;
    let said = container.exec(&[], &["echo", "hi"]).output()?;
    said.success()?.stdout_is("hi\n")?;
    same("the hypervisor", &hypervisor(world)?, &before)?;
    let shared = world.temp()?;
    let volume = format!("{}:/mnt", shared.path().display());
    let touch = world.run_with(&["-v", &volume], ["touch", "/mnt/made"]);
    touch.output()?.success()?;
    ensure!(shared.path().join("made").exists(), "nothing was made");
    // A stop without a supervisor gets one first.
    kill_process(supervisor(world)?, Signal::KILL)?;
    let stop = world.bare(["vm", "stop"]).timeout(PATIENCE).output()?;
    stop.success()?.stdout_is("stopped\n")?;
    ensure!(!is_there(before), "the hypervisor is left");
    runs_again(world)
}

fn a_machine_whose_hypervisor_is_killed_is_started_again(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    kill_process(hypervisor(world)?, Signal::KILL)?;
    let stopped = || Ok((state(world)? == "stopped").then_some(()));
    eventually(Duration::from_secs(20), "the machine stops", stopped)?;
    runs_again(world)?;
    // That it had started need not have reached the disk; that it is there has.
    let status = container.inspect()?["State"]["Status"].clone();
    ensure!(
        matches!(status.as_str(), Some("exited" | "created")),
        "{status}"
    );
    world
        .isolazi(["start", container.name()])
        .output()?
        .success()?;
    container.wait_status("running").map(drop)
}
