//! Memory that stays in use beside the containers' own: of each shim, natively,
//! and of a guest's agent, by its own account (nothing outside of the guest sees it).

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::fixture::find;
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Mode, World};

use crate::Bench;
use crate::listing::{clear, sleeper};
use crate::measure::{median, time};
use crate::podman::Podman;
use crate::table::Row;

const CONTAINERS: usize = 100;
/// Of a shim, in KiB.
const AIM: usize = 1 << 10;
/// Of the guest's agent, in KiB.
const AIM_OF_AGENT: usize = 8 << 10;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Native, "memory/native")?;
    let ours = share_of_shims(&world);
    let cleared = clear(&world);
    let ours = ours?;
    cleared?;
    let podman = Podman::new(bench.folder.path().join("memory/podman"))?;
    let theirs = share_of_conmons(&podman)?;
    let world = bench.world(Mode::Vm, "memory/vm")?;
    let agent = agent(&world);
    world.bare(["vm", "stop"]).output()?.success()?;
    let row = |what, ours, beside, aim| Row::of_memory(what, ours, beside, aim);
    Ok(vec![
        row(
            "a container's shim, of 100 (PSS)",
            ours,
            Some(("conmon", theirs)),
            AIM,
        ),
        row(
            "the guest's agent, 100 containers",
            agent?,
            None,
            AIM_OF_AGENT,
        ),
    ])
}

/// KiB that the agent takes while its guest has many containers.
fn agent(world: &World) -> Result<f64> {
    start_sleepers(world)?;
    let ask = [
        "vm",
        "info",
        "--format",
        "{{.ActiveContainers}} {{.AgentMemory}}",
    ];
    let said = world.bare(ask).output()?.success()?.stdout_text();
    let (containers, bytes) = said.trim().split_once(' ').context("two numbers")?;
    ensure!(
        containers.parse() == Ok(CONTAINERS),
        "{containers} containers run"
    );
    Ok(bytes.parse::<f64>()? / 1024.0)
}

fn start_sleepers(world: &World) -> Result<()> {
    let image = sleeper(world)?;
    for number in 0..CONTAINERS {
        let run = world.isolazi(["run", "-d", "--network", "none", "--name"]);
        let name = format!("bench-{number}");
        let run = run.args([&name, &image]);
        run.args(["/sleep", "100000"]).output()?.success()?;
    }
    Ok(())
}

fn share_of_shims(world: &World) -> Result<f64> {
    let before = named("isolazi-shim");
    start_sleepers(world)?;
    share_of_new("isolazi-shim", &before)
}

fn share_of_conmons(podman: &Podman) -> Result<f64> {
    let busybox = find("busybox").context("busybox-static is not installed")?;
    let image = podman.import(&busybox, "sleep")?;
    let before = named("conmon");
    for _ in 0..CONTAINERS {
        let run = ["run", "-d", "--network", "none", &image, "/sleep", "100000"];
        time(&mut podman.command(&run))?;
    }
    share_of_new("conmon", &before)
}

/// Median of what each of the processes that have come since `before` adds to
/// the machine's use of memory, in KiB: pages that several have count in parts
/// (proc(5), `smaps_rollup`).
fn share_of_new(name: &str, before: &BTreeSet<String>) -> Result<f64> {
    let new: Vec<_> = named(name).difference(before).cloned().collect();
    ensure!(new.len() >= CONTAINERS, "{} of {name} run", new.len());
    let shares = new
        .iter()
        .map(|pid| share(pid))
        .collect::<Result<Vec<_>>>()?;
    Ok(median(shares.into_iter()))
}

fn share(pid: &str) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.context("no Pss")?.parse()?)
}

/// Ids of the processes that were started as `name`.
fn named(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = command.split(|&byte| byte == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        program.rsplit('/').next() == Some(name)
    })
    .collect()
}
