//! Limits of what a container may use: set, shown, changed, and refused.

use anyhow::{Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::world::Container;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            limits_reach_the_kernel_and_inspect,
            a_container_that_wants_too_much_memory_is_killed,
            a_processor_limit_slows_it_down,
            limits_change_while_it_runs,
            limits_of_a_stopped_container_hold_from_the_next_start,
            limits_that_make_no_sense_start_nothing,
            update_says_what_it_cannot,
            exec_privileged_has_all_capabilities,
        ],
    }
}

/// What a file of a container's own cgroup says, by v2's or v1's name of it.
const READ: &str = "cat /sys/fs/cgroup/$0 2>/dev/null || cat /sys/fs/cgroup/$1";

pub(super) fn limit(container: &Container<'_>, v2: &str, v1: &str) -> Result<String> {
    let read = container.exec(&[], &["sh", "-c", READ, v2, v1]);
    Ok(read.output()?.success()?.stdout_text().trim().to_owned())
}

/// The same limit is written in either of two ways.
pub(super) fn either(what: &str, is: &str, v2: &str, v1: &str) -> Result<()> {
    ensure!(
        is == v2 || is == v1,
        "{what} is {is:?}, not {v2:?} or {v1:?}"
    );
    Ok(())
}

fn limits_reach_the_kernel_and_inspect(world: &World) -> Result<()> {
    let options = [
        "-m",
        "64m",
        "--memory-reservation",
        "32m",
        "-c",
        "0.5",
        "--cpu-weight",
        "200",
        "--cpuset-cpus",
        "0",
        "--io-weight",
        "50",
        "--pids-limit",
        "33",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let memory = limit(&container, "memory.max", "memory/memory.limit_in_bytes")?;
    same("memory", &memory, &(64 << 20).to_string())?;
    let low = limit(
        &container,
        "memory.low",
        "memory/memory.soft_limit_in_bytes",
    )?;
    same("reservation", &low, &(32 << 20).to_string())?;
    let quota = limit(&container, "cpu.max", "cpu/cpu.cfs_quota_us")?;
    either("quota", &quota, "50000 100000", "50000")?;
    let weight = limit(&container, "cpu.weight", "cpu/cpu.shares")?;
    either("weight", &weight, "200", "2048")?;
    let cpus = limit(&container, "cpuset.cpus", "cpuset/cpuset.cpus")?;
    same("processors", &cpus, &"0".to_owned())?;
    let io = limit(&container, "io.weight", "blkio/blkio.bfq.weight")?;
    either("io weight", &io, "default 50", "50")?;
    let pids = limit(&container, "pids.max", "pids/pids.max")?;
    same("processes", &pids, &"33".to_owned())?;
    // A further process is under the same limits.
    let allowed = container.exec(&[], &["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let allowed = allowed.output()?.success()?.stdout_text();
    ensure!(allowed.ends_with("\t0\n"), "{allowed}");
    let host = container.inspect()?["HostConfig"].take();
    for (field, value) in [
        ("Memory", json!(64 << 20)),
        ("MemorySwap", json!(128 << 20)),
        ("MemoryReservation", json!(32 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("CpuWeight", json!(200)),
        ("CpusetCpus", json!("0")),
        ("IoWeight", json!(50)),
        ("PidsLimit", json!(33)),
    ] {
        same(field, &host[field], &value)?;
    }
    Ok(())
}

fn a_container_that_wants_too_much_memory_is_killed(world: &World) -> Result<()> {
    let container = world.container();
    let run = world.isolazi(["run", "--name", container.name(), "-m", "16m"]);
    let run = run.args(["--memory-swap", "16m", &world.busybox()]);
    // `tail` keeps what it reads, as there is no line in it.
    let hungry = "exec tail -n 1 /dev/zero";
    run.args(["sh", "-c", hungry]).output()?.code(137)?;
    let state = container.inspect()?["State"].take();
    same("OOMKilled", &state["OOMKilled"], &json!(true))?;
    same("ExitCode", &state["ExitCode"], &json!(137))?;
    let killed = world.container();
    let run = world.isolazi(["run", "--name", killed.name(), &world.busybox()]);
    run.args(["sh", "-c", "kill -9 $$"]).output()?;
    same(
        "killed",
        &killed.inspect()?["State"]["OOMKilled"],
        &json!(false),
    )
}

fn a_processor_limit_slows_it_down(world: &World) -> Result<()> {
    let options = ["--cpu-quota", "10000", "--cpu-period", "50000"];
    let container = world.start(&options, &["sh", "-c", "while :; do :; done"])?;
    let quota = limit(&container, "cpu.max", "cpu/cpu.cfs_quota_us")?;
    either("quota", &quota, "10000 50000", "10000")?;
    eventually(world.patience(20), "a throttled container", || {
        let stat = limit(&container, "cpu.stat", "cpu/cpu.stat")?;
        let times = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        Ok(times.is_some_and(|times| times != "0").then_some(()))
    })
}

fn limits_change_while_it_runs(world: &World) -> Result<()> {
    let container = world.start(&["-m", "64m"], &["sleep", "1000"])?;
    let update = |options: &[&str]| -> Result<()> {
        let update = world.isolazi(["update"]).args(options);
        let name = format!("{}\n", container.name());
        update
            .args([container.name()])
            .output()?
            .success()?
            .stdout_is(&name)?;
        Ok(())
    };
    update(&[
        "-m",
        "200m",
        "--cpus",
        "0.25",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "44",
    ])?;
    let check = |what: &str| -> Result<()> {
        let memory = limit(&container, "memory.max", "memory/memory.limit_in_bytes")?;
        same(what, &memory, &(200 << 20).to_string())?;
        let quota = limit(&container, "cpu.max", "cpu/cpu.cfs_quota_us")?;
        either(what, &quota, "25000 100000", "25000")?;
        // The first process is where new ones are.
        let status = container.exec(&[], &["cat", "/proc/1/status"]).output()?;
        let status = status.success()?.stdout_text();
        ensure!(
            status.contains("Cpus_allowed_list:\t0\n"),
            "{what}: {status}"
        );
        let pids = limit(&container, "pids.max", "pids/pids.max")?;
        same(what, &pids, &"44".to_owned())
    };
    check("at once")?;
    let restart = world.isolazi(["restart", "-t", "0", container.name()]);
    restart.output()?.success()?;
    check("after a restart")?;
    update(&["-m", "100m"])?;
    let host = container.inspect()?["HostConfig"].take();
    same("Memory", &host["Memory"], &json!(100 << 20))?;
    same("NanoCpus", &host["NanoCpus"], &json!(250_000_000))?;
    same("policy", &host["RestartPolicy"]["Name"], &json!("no"))
}

fn limits_of_a_stopped_container_hold_from_the_next_start(world: &World) -> Result<()> {
    let container = world.container();
    let create = world.isolazi(["create", "--name", container.name(), &world.busybox()]);
    create.args(["sleep", "1000"]).output()?.success()?;
    let update = world.isolazi(["update", "-m", "50m", "--restart", "always"]);
    update.args([container.name()]).output()?.success()?;
    world
        .isolazi(["start", container.name()])
        .output()?
        .success()?;
    let memory = limit(&container, "memory.max", "memory/memory.limit_in_bytes")?;
    same("memory", &memory, &(50 << 20).to_string())
}

fn limits_that_make_no_sense_start_nothing(world: &World) -> Result<()> {
    let container = world.container();
    for (options, said) in [
        (&["-m", "1k"][..], "6m at least"),
        (&["-m", "many"], "'many' is not a size"),
        (&["--memory-swap", "64m"], "give --memory"),
        (&["-m", "64m", "--memory-swap", "32m"], "less than --memory"),
        (
            &["-m", "64m", "--memory-reservation", "65m"],
            "more than --memory",
        ),
        (&["--cpus", "4096"], "there are only"),
        (&["--cpus", "none"], "'none' is not a number of processors"),
        (
            &["--cpus", "1", "--cpu-quota", "5000"],
            "leave out --cpu-quota",
        ),
        (&["--cpu-period", "1"], "--cpu-period 1 is not"),
        (&["--cpu-weight", "20000"], "--cpu-weight 20000"),
        (&["--cpuset-cpus", "0-"], "not a list of processors"),
        (&["--cpuset-cpus", "4095"], "no processors 4095"),
        (&["--io-weight", "0"], "--io-weight 0"),
    ] {
        let run = world.isolazi(["run", "-d", "--name", container.name()]);
        let run = run.args(options).args([&world.busybox(), "true"]);
        run.output()?.fails_with(125, said)?;
        ensure!(!container.is_listed()?, "{options:?} left a container");
    }
    Ok(())
}

fn update_says_what_it_cannot(world: &World) -> Result<()> {
    let container = world.start(&["-m", "64m"], &["sleep", "1000"])?;
    for (options, said) in [
        (&[][..], "nothing to change"),
        (&["-m", "1m"], "6m at least"),
        (&["--memory-swap", "10m"], "less than --memory"),
        (&["--cpus", "4096"], "there are only"),
    ] {
        let update = world.isolazi(["update"]).args(options);
        update
            .args([container.name()])
            .output()?
            .fails_with(1, said)?;
    }
    let memory = limit(&container, "memory.max", "memory/memory.limit_in_bytes")?;
    same("memory", &memory, &(64 << 20).to_string())?;
    let unknown = world.isolazi(["update", "-m", "64m", "nobody"]).output()?;
    unknown.fails_with(1, "no such container: nobody")?;
    Ok(())
}

/// A line of `/proc/self/status`.
fn status(container: &Container<'_>, options: &[&str], key: &str) -> Result<String> {
    let script = format!("sed -n 's/^{key}:\\t//p' /proc/self/status");
    let read = container.exec(options, &["sh", "-c", &script]);
    Ok(read.output()?.success()?.stdout_text().trim().to_owned())
}

fn exec_privileged_has_all_capabilities(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let mount = ["mount", "-t", "tmpfs", "none", "/mnt"];
    container
        .exec(&[], &["mkdir", "-p", "/mnt"])
        .output()?
        .success()?;
    ensure!(!container.exec(&[], &mount).output()?.is_success());
    container
        .exec(&["--privileged"], &mount)
        .output()?
        .success()?;
    let effective = status(&container, &["--privileged"], "CapEff")?;
    let bounding = status(&container, &["--privileged"], "CapBnd")?;
    same("bounding set", &bounding, &effective)?;
    let ordinary = status(&container, &[], "CapEff")?;
    let bits = |text: &str| u64::from_str_radix(text, 16).map(u64::count_ones);
    ensure!(
        bits(&effective)? > bits(&ordinary)? + 10,
        "{effective} and {ordinary}"
    );
    same(
        "filter",
        &status(&container, &["--privileged"], "Seccomp")?,
        &"0".to_owned(),
    )?;
    same(
        "ordinary filter",
        &status(&container, &[], "Seccomp")?,
        &"2".to_owned(),
    )?;
    let of_user = status(&container, &["--privileged", "-u", "alice"], "CapEff")?;
    same("of a user", &of_user, &"0000000000000000".to_owned())?;
    // What is not the kernel's business of capabilities stays as it is.
    let device = container.exec(
        &["--privileged"],
        &["sh", "-c", "mknod /dev/x b 7 0 && head -c 1 /dev/x"],
    );
    ensure!(
        !device.output()?.is_success(),
        "a device of the host's opens"
    );
    Ok(())
}
