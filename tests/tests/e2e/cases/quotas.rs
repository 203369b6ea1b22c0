//! The further limits: shares by Docker's names, memory nodes, rates of devices,
//! and those that only cgroups v1 has.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::json;

use super::limits::{either, limit};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            shares_reach_the_kernel_and_inspect,
            shares_change_while_it_runs,
            what_only_v1_has_is_kept_or_said_not_to_be,
            a_device_is_slowed_down,
            further_limits_that_make_no_sense_start_nothing,
            who_takes_too_much_dies_alone,
            no_container_is_spared_more_than_the_agent,
            a_group_can_lie_in_another,
        ],
    }
}

fn shares_reach_the_kernel_and_inspect(world: &World) -> Result<()> {
    let options = [
        "--cpu-shares",
        "512",
        "--cpuset-mems",
        "0",
        "--blkio-weight",
        "300",
        "--pids-limit",
        "0",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let weight = limit(&container, "cpu.weight", "cpu/cpu.shares")?;
    either("shares", &weight, "20", "512")?;
    let nodes = limit(&container, "cpuset.mems", "cpuset/cpuset.mems")?;
    same("memory nodes", &nodes, &"0".to_owned())?;
    let io = limit(&container, "io.weight", "blkio/blkio.bfq.weight")?;
    either("io weight", &io, "default 2930", "300")?;
    let pids = limit(&container, "pids.max", "pids/pids.max")?;
    same("processes", &pids, &"max".to_owned())?;
    let host = container.inspect()?["HostConfig"].take();
    for (field, value) in [
        ("CpuShares", json!(512)),
        ("CpusetMems", json!("0")),
        ("BlkioWeight", json!(300)),
        ("PidsLimit", json!(-1)),
        ("OomKillDisable", json!(false)),
        ("BlkioDeviceReadBps", json!(null)),
    ] {
        same(field, &host[field], &value)?;
    }
    Ok(())
}

fn shares_change_while_it_runs(world: &World) -> Result<()> {
    let container = world.start(&["--cpu-weight", "50"], &["sleep", "1000"])?;
    let update = |options: &[&str]| {
        let update = world.isolazi(["update"]).args(options);
        update.args([container.name()]).output()
    };
    update(&["--cpu-shares", "2048", "--cpuset-mems", "0"])?.success()?;
    let weight = limit(&container, "cpu.weight", "cpu/cpu.shares")?;
    either("shares", &weight, "79", "2048")?;
    // It is one thing by two names, and the later one counts.
    let host = container.inspect()?["HostConfig"].take();
    same("CpuShares", &host["CpuShares"], &json!(2048))?;
    same("CpuWeight", &host["CpuWeight"], &json!(0))?;
    update(&["--cpu-shares", "1"])?.fails_with(1, "--cpu-shares 1")?;
    update(&["--cpuset-mems", "77"])?.fails_with(1, "no memory nodes 77")?;
    Ok(())
}

fn what_only_v1_has_is_kept_or_said_not_to_be(world: &World) -> Result<()> {
    let options = [
        "--oom-kill-disable",
        "--memory-swappiness",
        "10",
        "-m",
        "64m",
    ];
    let script = "cat /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory/memory.swappiness 2>/dev/null; true";
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    let output = output.success()?;
    let (out, err) = (output.stdout_text(), output.stderr_text());
    if out.is_empty() {
        for option in ["--oom-kill-disable", "--memory-swappiness"] {
            let said = err.lines().filter(|line| line.contains(option)).count();
            same(&format!("warnings about {option}"), &said, &1)?;
        }
    } else {
        let kept = out.starts_with("oom_kill_disable 1\n") && out.ends_with("\n10\n");
        ensure!(kept && err.is_empty(), "{}", output.complaint("not kept"));
    }
    // As the manual has it, without a limit of memory.
    let output = world
        .run_with(&["--oom-kill-disable"], ["echo", "ran"])
        .output()?;
    output
        .success()?
        .stdout_is("ran\n")?
        .stderr_has("--oom-kill-disable")?;
    let container = world.start(&options, &["sleep", "1000"])?;
    let host = container.inspect()?["HostConfig"].take();
    same("OomKillDisable", &host["OomKillDisable"], &json!(true))?;
    same("MemorySwappiness", &host["MemorySwappiness"], &json!(10))
}

/// A disk of the machine that containers run on, and the number of it.
fn disk(world: &World) -> Result<Option<String>> {
    if world.is_vm() {
        // The guest's own.
        return Ok(Some("/dev/vda".to_owned()));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = format!("/dev/{name}");
        let is_there = fs::metadata(&path).is_ok_and(|it| it.file_type().is_block_device());
        if is_there && !name.starts_with("loop") && !name.starts_with("zram") {
            names.push(path);
        }
    }
    Ok(names.into_iter().next())
}

fn a_device_is_slowed_down(world: &World) -> Result<()> {
    let Some(disk) = disk(world)? else {
        // Without a disk there is nothing to slow down.
        return Ok(());
    };
    let options = [
        "--device-read-bps",
        &format!("{disk}:1mb"),
        "--device-write-bps",
        &format!("{disk}:2mb"),
        "--device-read-iops",
        &format!("{disk}:100"),
        "--device-write-iops",
        &format!("{disk}:200"),
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    for (key, file, value) in [
        ("rbps=", "read_bps", "1048576"),
        ("wbps=", "write_bps", "2097152"),
        ("riops=", "read_iops", "100"),
        ("wiops=", "write_iops", "200"),
    ] {
        let old = format!("blkio/blkio.throttle.{file}_device");
        let rates = limit(&container, "io.max", &old)?;
        let kept = rates
            .split([' ', '\n'])
            .any(|word| word == value || word.strip_prefix(key).is_some_and(|rate| rate == value));
        ensure!(kept, "{file} is {rates:?}, not {value}");
    }
    let host = container.inspect()?["HostConfig"].take();
    let shown = json!([{ "Path": disk, "Rate": 1 << 20 }]);
    same("BlkioDeviceReadBps", &host["BlkioDeviceReadBps"], &shown)
}

fn further_limits_that_make_no_sense_start_nothing(world: &World) -> Result<()> {
    let container = world.container();
    for (options, said) in [
        (&["--cpu-shares", "1"][..], "--cpu-shares 1 is not"),
        (
            &["--cpu-shares", "512", "--cpu-weight", "5"],
            "by two names",
        ),
        (&["--blkio-weight", "5"], "--blkio-weight 5 is not"),
        (
            &["--blkio-weight", "50", "--io-weight", "5"],
            "by two names",
        ),
        (&["--cpuset-mems", "none"], "not a list of memory nodes"),
        (&["--cpuset-mems", "4095"], "no memory nodes 4095"),
        (&["--memory-swappiness", "101"], "--memory-swappiness 101"),
        (&["--memory-swappiness", "-2"], "'-2' is not a swappiness"),
        (
            &["--device-read-bps", "/dev/null"],
            "not a rate of a device",
        ),
        (
            &["--device-read-bps", "/dev/null:1mb"],
            "not a block device",
        ),
        (
            &["--device-write-iops", "/dev/nowhere:5"],
            "no such device /dev/nowhere",
        ),
        (
            &["--device-read-iops", "/dev/null:1mb"],
            "not a rate of a device",
        ),
    ] {
        let run = world.isolazi(["run", "-d", "--name", container.name()]);
        let run = run.args(options).args([&world.busybox(), "true"]);
        run.output()?.fails_with(125, said)?;
        ensure!(!container.is_listed()?, "{options:?} left a container");
    }
    Ok(())
}

fn who_takes_too_much_dies_alone(world: &World) -> Result<()> {
    let other = world.start(&["-m", "32m"], &["sleep", "1000"])?;
    let limits = ["-m", "16m", "--memory-swap", "16m", "--pids-limit", "20"];
    let hog = world.run_with(&limits, ["sh", "-c", "exec tail -n 1 /dev/zero"]);
    hog.output()?.code(137)?;
    // Both at once, each child with two of its own and some memory.
    let bomb = "b() { b & b & wait; }; (b 2>/dev/null) & exec tail -n 1 /dev/zero";
    let bomb = world.run_with(&limits, ["sh", "-c", bomb]);
    bomb.timeout(world.patience(60)).output()?.code(137)?;
    let state = other.inspect()?["State"].take();
    same("the other", &state["Status"], &json!("running"))?;
    same("the other", &state["OOMKilled"], &json!(false))?;
    let output = other.exec(&[], &["echo", "well"]).output()?;
    output.success()?.stdout_is("well\n")?;
    Ok(())
}

fn no_container_is_spared_more_than_the_agent(world: &World) -> Result<()> {
    let score = ["cat", "/proc/self/oom_score_adj"];
    let run = world.run_with(&["--oom-score-adj", "-1000"], score);
    let output = run.output()?.success()?;
    let inside: i32 = output.stdout_text().trim().parse()?;
    // The guest's agent has 0 as everybody who says nothing.
    let agent = match world.is_vm() {
        true => 0,
        false => fs::read_to_string("/proc/self/oom_score_adj")?
            .trim()
            .parse()?,
    };
    ensure!(inside >= agent, "{inside} is below {agent}");
    if inside != -1000 {
        output.stderr_has("oom_score_adj")?;
    }
    Ok(())
}

fn a_group_can_lie_in_another(world: &World) -> Result<()> {
    let parent = format!("/isolazi-e2e-{}", std::process::id());
    let looked = look_into_a_group_in(world, &parent);
    // Like Docker's, the parent stays: it may be anybody's.
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let group = hierarchy?.path().join(parent.trim_start_matches('/'));
        drop(fs::remove_dir(group));
    }
    drop(fs::remove_dir(format!("/sys/fs/cgroup{parent}")));
    looked
}

fn look_into_a_group_in(world: &World, parent: &str) -> Result<()> {
    let options = ["--cgroup-parent", parent, "-m", "64m", "--cpuset-cpus", "0"];
    let container = world.start(&options, &["sleep", "1000"])?;
    let described = container.inspect()?;
    let shown = &described["HostConfig"]["CgroupParent"];
    same("CgroupParent", shown, &json!(parent))?;
    let memory = limit(&container, "memory.max", "memory/memory.limit_in_bytes")?;
    same("memory", &memory, &(64 << 20).to_string())?;
    if !world.is_vm() {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", described["State"]["Pid"]))?;
        let own = format!("{parent}/{}", described["Id"].as_str().unwrap_or_default());
        ensure!(groups.contains(&own), "{own} is not in {groups}");
    }
    for verb in ["pause", "unpause", "stop"] {
        let output = world.isolazi([verb, container.name()]).output()?;
        output.success()?;
    }
    for bad in ["a/../../b", "/a//b", "."] {
        let output = world
            .run_with(&["--cgroup-parent", bad], ["true"])
            .output()?;
        output.fails_with(125, "not the path of a control group")?;
    }
    Ok(())
}
