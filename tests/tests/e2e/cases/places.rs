//! Containers on this host's kernel and in the machine, side by side.

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmOnly: [
            verbs_find_the_container_where_it_lives,
            names_are_unique_across_both,
        ],
        VmAlone: [
            isolation_chooses_the_place,
            a_stopped_machines_containers_are_listed,
        ],
    }
}

fn verbs_find_the_container_where_it_lives(world: &World) -> Result<()> {
    let there = world.start(&[], &["sh", "-c", "echo there; sleep 1000"])?;
    let here = world.container();
    let image = world.busybox();
    let script = "echo here; sleep 1000";
    world
        .bare([
            "run",
            "-d",
            "--name",
            here.name(),
            &image,
            "sh",
            "-c",
            script,
        ])
        .output()?
        .success()?;
    let kernel = |name: &str| -> Result<String> {
        let output = world.bare(["exec", name, "uname", "-r"]).output()?;
        Ok(output.success()?.stdout_text())
    };
    let (one, other) = (kernel(there.name())?, kernel(here.name())?);
    ensure!(one.contains("isolazi") && one != other, "{one} and {other}");
    there.wait_log("there")?;
    for (container, isolation, said) in [(&there, "vm", "there\n"), (&here, "process", "here\n")] {
        let name = container.name();
        let described = world.bare(["inspect", name]).output()?.success()?.json()?;
        let place = &described[0]["Isolation"];
        same("Isolation", &place.as_str(), &Some(isolation))?;
        let id = described[0]["Id"].as_str().unwrap_or_default()[..12].to_owned();
        let logs = world.bare(["logs", &id]).output()?.success()?;
        logs.stdout_is(said)?;
        world.bare(["stop", "-t", "0", &id]).output()?.success()?;
        world.bare(["rm", name]).output()?.success()?;
        world
            .bare(["inspect", name])
            .output()?
            .fails_with(1, name)?;
    }
    Ok(())
}

fn names_are_unique_across_both(world: &World) -> Result<()> {
    let there = world.start(&[], &["sleep", "1000"])?;
    let image = world.busybox();
    let taken = world.bare(["create", "--name", there.name(), &image, "true"]);
    taken.output()?.fails_with(1, "is taken")?;
    let here = world.container();
    let create = ["create", "--name", here.name(), &image, "true"];
    world.bare(create).output()?.success()?;
    world.isolazi(create).output()?.fails_with(1, "is taken")?;
    let rename = ["rename", there.name(), here.name()];
    world.bare(rename).output()?.fails_with(1, "is taken")?;
    world.bare(["rm", here.name()]).output()?.success()?;
    world.bare(rename).output()?.success()?;
    world
        .isolazi(["rm", "-f", here.name()])
        .output()?
        .success()?;
    Ok(())
}

fn isolation_chooses_the_place(world: &World) -> Result<()> {
    let image = world.busybox();
    let kernel = |place: &str| -> Result<String> {
        let run = ["run", "--rm", "--isolation", place, &image, "uname", "-r"];
        Ok(world.bare(run).output()?.success()?.stdout_text())
    };
    let (process, vm) = (kernel("process")?, kernel("vm")?);
    ensure!(
        vm.contains("isolazi") && process != vm,
        "{process} and {vm}"
    );
    let output = world
        .bare(["run", "--isolation", "hyperv", &image])
        .output()?;
    output.code(2)?.stderr_has("process or vm")?;
    Ok(())
}

fn a_stopped_machines_containers_are_listed(world: &World) -> Result<()> {
    let ended = world.start(&[], &["sh", "-c", "exit 3"])?;
    ended.wait_status("exited")?;
    let running = world.start(&[], &["sleep", "1000"])?;
    let vm = |verb: &str| world.bare(["vm", verb]).output()?.success();
    vm("stop")?;
    let listed = world.bare(["ps", "-a"]).output()?.success()?.stdout_text();
    let line_of = |name: &str| {
        let mut lines = listed.lines().filter(|line| line.contains(name));
        lines.next().unwrap_or_default().to_owned()
    };
    ensure!(line_of(ended.name()).contains("Exited (3)"), "{listed}");
    ensure!(line_of(running.name()).contains("Exited (137)"), "{listed}");
    ensure!(line_of(running.name()).contains(" vm "), "{listed}");
    let status = vm("status")?;
    status.stdout_has("stopped")?;
    // A verb starts the machine where it needs it.
    world.bare(["start", running.name()]).output()?.success()?;
    running.wait_status("running").map(drop)
}
