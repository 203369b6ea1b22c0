//! The machine itself: its start and end, who may use it, and what goes wrong.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{same, tool};
use isolazi_tests::wiretap::Wiretap;
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmOnly: [
            status_and_info_tell_of_the_machine,
            starting_what_runs_is_fine,
            the_guest_has_nothing_but_the_agent,
            a_container_cannot_reach_the_agent,
            missing_qemu_is_named,
            a_corrupt_kernel_is_refused,
            an_unreadable_appliance_is_refused,
            a_missing_appliance_is_named,
        ],
        VmAlone: [
            containers_and_images_outlive_the_machine,
            two_starts_make_one_machine,
            an_unprivileged_user_has_it_all,
            a_container_takes_few_round_trips,
        ],
    }
}

fn status_and_info_tell_of_the_machine(world: &World) -> Result<()> {
    world
        .bare(["vm", "status"])
        .output()?
        .success()?
        .stdout_has("running")?;
    let info = world.bare(["vm", "info"]).output()?.success()?;
    info.stdout_has("appliance:")?.stdout_has("kernel:")?;
    let container = world.start(&[], &["sleep", "1000"])?;
    let counted = world.bare([
        "vm",
        "info",
        "--format",
        "{{.ActiveContainers}} {{.AgentMemory}}",
    ]);
    let counted = counted.output()?.success()?.stdout_text();
    let (containers, memory) = counted.trim().split_once(' ').context("two numbers")?;
    ensure!(containers.parse::<u32>()? >= 1, "{containers} containers");
    let memory = memory.parse::<u64>()?;
    ensure!((1 << 20..64 << 20).contains(&memory), "{memory} bytes");
    drop(container);
    Ok(())
}

fn starting_what_runs_is_fine(world: &World) -> Result<()> {
    let before = machine(world)?;
    world
        .bare(["vm", "start"])
        .output()?
        .success()?
        .stdout_has("running")?;
    same("the machine", &machine(world)?, &before)
}

/// The line of `vm status` that names the machine's process.
fn machine(world: &World) -> Result<String> {
    let status = world
        .bare(["vm", "status"])
        .output()?
        .success()?
        .stdout_text();
    let line = status.lines().find(|line| line.starts_with("machine:"));
    Ok(line.unwrap_or_default().to_owned())
}

fn the_guest_has_nothing_but_the_agent(world: &World) -> Result<()> {
    // Nothing of the host's loopback is there, and no port is open in the guest's.
    let output = world
        .sh("cat /proc/net/tcp | tail -n +2 | wc -l")
        .output()?;
    output.success()?.stdout_is("0\n")?;
    Ok(())
}

fn a_container_cannot_reach_the_agent(world: &World) -> Result<()> {
    let output = world
        .sh("probe forbidden | grep socket-vsock; ls /dev/vsock 2>/dev/null")
        .output()?;
    let said = output.stdout_text();
    ensure!(
        !said.contains("ok") && !said.contains("/dev/vsock"),
        "{said}"
    );
    Ok(())
}

/// A machine of its own in `folder`, never started by a good case.
fn other(world: &World, folder: &Path) -> World {
    world.fresh(folder)
}

fn missing_qemu_is_named(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let other = other(world, folder.path());
    let output = other
        .bare(["run", "--vm", "--rm", "hello"])
        .env("PATH", folder.path())
        .timeout(Duration::from_secs(30))
        .output()?;
    output
        .fails_with(125, "qemu-system-")?
        .stderr_has("install")?;
    Ok(())
}

/// A copy of the appliance, holes and all.
pub(super) fn copy_of_appliance(world: &World, folder: &Path) -> Result<std::path::PathBuf> {
    let copy = folder.join("appliance");
    let from = world.shared().appliance.as_os_str();
    tool(
        "cp",
        [
            "-r".as_ref(),
            "--sparse=always".as_ref(),
            from,
            copy.as_os_str(),
        ],
    )?;
    Ok(copy)
}

fn a_corrupt_kernel_is_refused(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let appliance = copy_of_appliance(world, folder.path())?;
    for file in ["vmlinux", "initramfs.cpio"] {
        let path = appliance.join(file);
        flip_a_byte(&path)?;
        let output = other(world, folder.path())
            .bare(["run", "--vm", "--rm", "hello"])
            .env("ISOLAZI_APPLIANCE", &appliance)
            .timeout(Duration::from_secs(60))
            .output()?;
        output.fails_with(125, file)?;
        flip_a_byte(&path)?;
    }
    Ok(())
}

fn flip_a_byte(path: &Path) -> Result<()> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(middle))?;
    file.write_all(&[byte[0] ^ 0x55])?;
    Ok(())
}

fn an_unreadable_appliance_is_refused(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let appliance = copy_of_appliance(world, folder.path())?;
    fs::remove_file(appliance.join("vmlinux"))?;
    let run = |folder: &Path| {
        other(world, folder)
            .bare(["run", "--vm", "--rm", "hello"])
            .env("ISOLAZI_APPLIANCE", &appliance)
            .timeout(Duration::from_secs(60))
            .output()
    };
    run(folder.path())?.fails_with(125, "vmlinux")?;
    fs::write(appliance.join("manifest.json"), "{")?;
    run(folder.path())?.fails_with(125, "manifest.json")?;
    Ok(())
}

fn a_missing_appliance_is_named(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let output = other(world, folder.path())
        .bare(["vm", "start"])
        .env("ISOLAZI_APPLIANCE", folder.path().join("nothing-here"))
        .timeout(Duration::from_secs(30))
        .output()?;
    output.fails_with(1, "nothing-here")?;
    Ok(())
}

fn containers_and_images_outlive_the_machine(world: &World) -> Result<()> {
    let ended = world.start(&[], &["sh", "-c", "echo said; exit 3"])?;
    ended.wait_status("exited")?;
    let running = world.start(&[], &["sleep", "1000"])?;
    let listed = || -> Result<String> {
        let output = world.isolazi(["images", "-q"]).output()?;
        Ok(output.success()?.stdout_text())
    };
    let images = listed()?;
    world
        .bare(["vm", "stop"])
        .timeout(Duration::from_secs(60))
        .output()?
        .success()?
        .stdout_has("stopped")?;
    world
        .bare(["vm", "status"])
        .output()?
        .success()?
        .stdout_has("stopped")?;
    world
        .bare(["vm", "stop"])
        .output()?
        .success()?
        .stdout_has("already stopped")?;
    world
        .bare(["vm", "start"])
        .timeout(Duration::from_secs(120))
        .output()?
        .success()?;
    same("images", &listed()?, &images)?;
    let state = ended.inspect()?;
    same("exit code", &state["State"]["ExitCode"].as_i64(), &Some(3))?;
    world
        .isolazi(["logs", ended.name()])
        .output()?
        .success()?
        .stdout_is("said\n")?;
    let state = running.inspect()?;
    same(
        "status",
        &state["State"]["Status"].as_str(),
        &Some("exited"),
    )?;
    world
        .run(["echo", "again"])
        .output()?
        .success()?
        .stdout_is("again\n")?
        .stderr_is("")?;
    Ok(())
}

fn two_starts_make_one_machine(world: &World) -> Result<()> {
    world
        .bare(["vm", "stop"])
        .timeout(Duration::from_secs(60))
        .output()?
        .success()?;
    let starting = (0..3)
        .map(|n| {
            let echo = world.run(["echo", &n.to_string()]);
            echo.timeout(Duration::from_secs(180)).spawn()
        })
        .collect::<Result<Vec<_>>>()?;
    for (n, running) in starting.into_iter().enumerate() {
        running.wait()?.success()?.stdout_is(&format!("{n}\n"))?;
    }
    let root = world.root().display().to_string();
    let machines = tool("pgrep", ["-c", "-f", &format!("qemu-system.*{root}")])?;
    same("machines", &machines.trim(), &"1")
}

fn a_container_takes_few_round_trips(world: &World) -> Result<()> {
    let run = || world.run(["echo", "it runs"]).output()?.success();
    run()?;
    let socket = world.root().join("machine/run/vsock.sock");
    if !socket.exists() {
        eprintln!("skipped: this host's kernel has a vsock, which cannot be listened in on");
        return Ok(());
    }
    let tap = Wiretap::on(&socket)?;
    run()?;
    let trips = tap.round_trips_until(b"it runs");
    ensure!(trips.is_some_and(|trips| trips <= 3), "{trips:?}");
    Ok(())
}

fn an_unprivileged_user_has_it_all(world: &World) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("isolazi-nobody-")
        .tempdir()?;
    let at = folder.path();
    let program = at.join("isolazi");
    fs::copy(&world.shared().program, &program)?;
    let appliance = copy_of_appliance(world, at)?;
    fs::create_dir(at.join("shared"))?;
    fs::write(at.join("shared/file"), "from nobody\n")?;
    tool(
        "chown",
        ["-R".as_ref(), "65534:65534".as_ref(), at.as_os_str()],
    )?;
    let isolazi = |args: &[&str]| {
        Invocation::new(&program, Duration::from_secs(180))
            .args(args)
            .env("HOME", at)
            .env("ISOLAZI_HOME", at.join("data"))
            .env("ISOLAZI_APPLIANCE", &appliance)
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(at)
            .through(
                "setpriv",
                &["--reuid=65534", "--regid=65534", "--clear-groups"],
            )
            .output()
    };
    let image = world.busybox();
    let used = (|| {
        isolazi(&["run", "--vm", "--rm", &image, "id", "-u"])?
            .success()?
            .stdout_is("0\n")?;
        let script = "cat /mnt/file && echo made >/mnt/made && chown 0:0 /mnt/made";
        isolazi(&[
            "run",
            "--vm",
            "--rm",
            "-v",
            "./shared:/mnt",
            &image,
            "sh",
            "-c",
            script,
        ])?
        .success()?
        .stdout_is("from nobody\n")?;
        use std::os::unix::fs::MetadataExt;
        same(
            "owner",
            &fs::metadata(at.join("shared/made"))?.uid(),
            &65534,
        )?;
        isolazi(&[
            "run", "--vm", "-d", "--name", "mine", &image, "sleep", "1000",
        ])?
        .success()?;
        isolazi(&["exec", "--vm", "mine", "echo", "hi"])?
            .success()?
            .stdout_is("hi\n")?;
        isolazi(&["ps", "--vm"])?.success()?.stdout_has("mine")?;
        isolazi(&["rm", "--vm", "-f", "mine"])?.success()?;
        Ok(())
    })();
    isolazi(&["vm", "stop"])?;
    used
}
