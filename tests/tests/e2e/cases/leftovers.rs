//! What stays on the machine when containers end, however they end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::host::{self, Traces};
use isolazi_tests::{Case, World};
use rustix::process::{Signal, kill_process};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        NativeOnly: [
            a_killed_shim_takes_its_container_along,
            an_ended_container_leaves_no_trace,
        ],
        Alone: [
            no_container_is_left,
        ],
    }
}

fn an_ended_container_leaves_no_trace(world: &World) -> Result<()> {
    let container = world.start(&["--rm"], &["sh", "-c", "sleep 1000 & sleep 1000"])?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    Traces::in_the_end(&world.root()).ensure_none_of(&id)?;
    let folder = world.root().join("containers").join(&id);
    ensure!(!folder.exists(), "{} is left", folder.display());
    Ok(())
}

fn a_killed_shim_takes_its_container_along(world: &World) -> Result<()> {
    let container = world.start(&[], &["sh", "-c", "sleep 1000 & sleep 1000"])?;
    let described = container.inspect()?;
    let id = described["Id"].as_str().unwrap_or_default().to_owned();
    let pid = described["State"]["Pid"]
        .as_i64()
        .context("no process id")?;
    let shim = host::parent(pid)?;
    kill_process(shim, Signal::KILL)?;
    let gone = || Ok((!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    eventually(
        Duration::from_secs(10),
        "the container's process ends",
        gone,
    )?;
    let described = container.wait_status("exited")?;
    same(
        "exit code",
        &described["State"]["ExitCode"].as_i64(),
        &Some(137),
    )?;
    Traces::in_the_end(&world.root()).ensure_none_of(&id)?;
    world
        .isolazi(["rm", container.name()])
        .output()?
        .success()?;
    ensure!(!container.is_listed()?, "it is still listed");
    Ok(())
}

/// Runs when all other cases are done.
fn no_container_is_left(world: &World) -> Result<()> {
    let listed = world.isolazi(["ps", "-a"]).output()?.success()?;
    ensure!(
        listed.stdout_text().lines().count() == 1,
        "{}",
        listed.complaint("expected nothing but the heading")
    );
    let containers = world.root().join("containers");
    for folder in [&containers, &containers.join(".names")] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let left: Vec<_> = entries
            .map(|entry| entry.file_name())
            .filter(|name| name != ".names")
            .collect();
        ensure!(left.is_empty(), "left in {}: {left:?}", folder.display());
    }
    if !world.is_vm() {
        Traces::in_the_end(&world.root()).ensure_none()?;
    }
    Ok(())
}
