//! Memory that stays in use beside the containers' own, natively. What the agent
//! uses in a guest is not measured: nothing outside of the guest can see it, and
//! nothing in a container may.

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
    Ok(vec![Row::of_memory(
        "a container's shim, of 100 (PSS)",
        ours,
        Some(("conmon", theirs)),
        AIM,
    )])
}

fn share_of_shims(world: &World) -> Result<f64> {
    let image = sleeper(world)?;
    let before = named("isolazi-shim");
    for number in 0..CONTAINERS {
        let run = world.isolazi(["run", "-d", "--network", "none", "--name"]);
        let name = format!("bench-{number}");
        let run = run.args([&name, &image]);
        run.args(["/sleep", "100000"]).output()?.success()?;
    }
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
