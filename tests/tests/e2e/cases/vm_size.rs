//! How large the machine is, what of it the host gets back, and its end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmOnly: [
            sizes_that_cannot_be_had_are_refused,
            its_logs_are_printed,
            hypervisors_are_listed,
        ],
        VmAlone: [
            a_machine_has_the_size_asked_for_and_can_be_reset,
            freed_memory_goes_back_to_the_host,
            freed_disk_space_goes_back_to_the_host,
        ],
    }
}

const MIB: u64 = 1 << 20;

fn vm(world: &World, args: &[&str]) -> Invocation {
    world
        .bare([&["vm"], args].concat())
        .timeout(Duration::from_secs(120))
}

fn sizes_that_cannot_be_had_are_refused(world: &World) -> Result<()> {
    for (option, value, complaint) in [
        ("--cpus", "100000", "this host has"),
        ("--cpus", "half", "this host has"),
        ("--memory", "1m", "256MiB"),
        ("--memory", "much", "much"),
        ("--disk", "1g", "cannot shrink"),
        ("--disk", "100t", "16TiB"),
    ] {
        vm(world, &["resize", option, value])
            .output()?
            .fails_with(1, complaint)?;
    }
    vm(world, &["start", "--memory", "1g"])
        .output()?
        .fails_with(1, "runs already")?;
    vm(world, &["resize"])
        .output()?
        .fails_with(1, "give --cpus, --memory or --disk")?;
    ensure!(!world.root().join("config.toml").exists());
    Ok(())
}

fn its_logs_are_printed(world: &World) -> Result<()> {
    vm(world, &["logs"]).output()?.success()?;
    vm(world, &["console", "--tail", "5"]).output()?.success()?;
    vm(world, &["console", "--tail", "some"])
        .output()?
        .fails_with(1, "'some'")?;
    Ok(())
}

fn hypervisors_are_listed(world: &World) -> Result<()> {
    let status = vm(world, &["status"]).output()?.success()?;
    status
        .stdout_has("hypervisor:  qemu (/")?
        .stdout_has("in use")?;
    let template = "{{.Backend}} {{len .Hypervisors}}";
    let status = vm(world, &["status", "--format", template]).output()?;
    status.success()?.stdout_is("qemu 1\n")?;
    Ok(())
}

fn a_machine_has_the_size_asked_for_and_can_be_reset(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let other = world.fresh(folder.path());
    let size = ["start", "--cpus", "1", "--memory", "400m", "--disk", "70g"];
    vm(&other, &size).output()?.success()?;
    let ended = (|| {
        let settings = fs::read_to_string(other.root().join("config.toml"))?;
        same(
            "settings",
            &settings.as_str(),
            &"[machine]\ncpus = 1\nmemory = \"400m\"\ndisk = \"70g\"\n",
        )?;
        let script = "nproc; sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; \
                      df -k / | tail -n 1 | awk '{ print $2 }'";
        let seen = other.sh(script).output()?.success()?.stdout_text();
        let numbers: Vec<u64> = seen.lines().map(str::parse).collect::<Result<_, _>>()?;
        let [cpus, memory, disk] = numbers[..] else {
            anyhow::bail!("three numbers, not {seen}");
        };
        same("processors", &cpus, &1)?;
        ensure!((300 << 10..400 << 10).contains(&memory), "{memory} KiB");
        ensure!((66 << 20..70 << 20).contains(&disk), "{disk} KiB");
        other
            .isolazi(["volume", "create", "kept"])
            .output()?
            .success()?;
        vm(&other, &["resize", "--memory", "500m"])
            .output()?
            .success()?
            .stderr_has("isolazi vm restart")?;
        vm(&other, &["reset"]).stdin("n\n").output()?.success()?;
        ensure!(
            other.root().join("machine/data.img").exists(),
            "it was not to go"
        );
        vm(&other, &["reset", "--force"])
            .output()?
            .success()?
            .stdout_is("removed\n")?;
        vm(&other, &["status"])
            .output()?
            .success()?
            .stdout_has("stopped")?;
        ensure!(
            !other.root().join("machine/data.img").exists(),
            "it is still there"
        );
        vm(&other, &["reset", "-f"])
            .output()?
            .success()?
            .stdout_is("there is no machine\n")?;
        // The images are the host's, and the settings the user's.
        let memory = other.sh("grep MemTotal /proc/meminfo").output()?;
        let memory = memory.success()?.stdout_text();
        let kib: u64 = memory.split_whitespace().nth(1).context("KiB")?.parse()?;
        ensure!((400 << 10..500 << 10).contains(&kib), "{kib} KiB");
        let volumes = other.isolazi(["volume", "ls", "-q"]).output()?.success()?;
        volumes.stdout_is("")?;
        Ok(())
    })();
    vm(&other, &["stop"]).output()?.success()?;
    ended
}

/// Bytes of the guest's memory that the host holds.
fn held(world: &World) -> Result<u64> {
    let status = vm(world, &["status", "--format", "{{.Pid}}"]).output()?;
    let pid = status.success()?.stdout_text();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim()))?;
    let line = status.lines().find_map(|it| it.strip_prefix("RssShmem:"));
    let kib = line.and_then(|it| it.split_whitespace().next());
    Ok(kib.context("a number of KiB")?.parse::<u64>()? << 10)
}

fn freed_memory_goes_back_to_the_host(world: &World) -> Result<()> {
    const FILLED: u64 = 256;
    let size = format!("{FILLED}m");
    let container = world.start(&["--shm-size", &size], &["sleep", "1000"])?;
    let fill = format!("dd if=/dev/zero of=/dev/shm/x bs=1M count={FILLED} 2>/dev/null");
    let before = held(world)?;
    container
        .exec(&[], &["sh", "-c", &fill])
        .output()?
        .success()?;
    let full = held(world)?;
    ensure!(full > before + FILLED / 2 * MIB, "{before}, {full}");
    container
        .exec(&[], &["rm", "/dev/shm/x"])
        .output()?
        .success()?;
    eventually(Duration::from_secs(60), "the memory comes back", || {
        let now = held(world)?;
        Ok((now + FILLED * 3 / 4 * MIB < full).then_some(()))
    })
}

/// Bytes that a sparse file takes.
fn taken(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.blocks() * 512)
}

fn freed_disk_space_goes_back_to_the_host(world: &World) -> Result<()> {
    const WRITTEN: u64 = 64;
    let disk = world.root().join("machine/data.img");
    let container = world.start(&[], &["sleep", "1000"])?;
    let before = taken(&disk)?;
    let fill = format!("dd if=/dev/urandom of=/x bs=1M count={WRITTEN} 2>/dev/null; sync");
    container
        .exec(&[], &["sh", "-c", &fill])
        .output()?
        .success()?;
    let full = taken(&disk)?;
    ensure!(full > before + WRITTEN / 2 * MIB, "{before}, {full}");
    container
        .exec(&[], &["sh", "-c", "rm /x; sync"])
        .output()?
        .success()?;
    eventually(Duration::from_secs(60), "the space comes back", || {
        Ok((taken(&disk)? + WRITTEN * 3 / 4 * MIB < full).then_some(()))
    })
}
