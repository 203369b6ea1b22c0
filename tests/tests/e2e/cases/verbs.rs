//! Every verb once, where only a sample of the other cases is run.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::{Case, Output, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        ElsewhereAlone: [
            containers_are_handled_by_every_verb,
            images_are_handled_by_every_verb,
            the_rest_is_handled_by_every_verb,
        ],
    }
}

fn say(world: &World, line: &[&str]) -> Result<Output> {
    world.isolazi(line).output()?.success()
}

fn containers_are_handled_by_every_verb(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let (container, busybox) = (world.container(), world.busybox());
    let name = container.name();
    let script = "trap 'exit 3' TERM; echo begun; while :; do sleep 0.1; done";
    let create = ["create", "--name", name, "-p", "127.0.0.1::80", &busybox];
    say(world, &[&create[..], &["sh", "-c", script]].concat())?;
    say(world, &["start", name])?;
    container.wait_log("begun\n")?;
    say(world, &["exec", name, "echo", "in"])?.stdout_is("in\n")?;
    say(world, &["ps"])?.stdout_has(name)?;
    say(world, &["inspect", name])?.stdout_has("\"running\"")?;
    say(world, &["top", name])?.stdout_has("sh -c")?;
    say(world, &["port", name])?.stdout_has("80/tcp -> 127.0.0.1:")?;
    say(world, &["stats", "--no-stream", name])?.stdout_has(name)?;
    fs::write(folder.path().join("file"), "copied\n")?;
    let there = format!("{name}:/tmp/file");
    let here = folder.path().join("file").display().to_string();
    say(world, &["cp", &here, &there])?;
    say(world, &["exec", name, "cat", "/tmp/file"])?.stdout_is("copied\n")?;
    say(world, &["diff", name])?.stdout_has("A /tmp/file")?;
    say(world, &["update", "--restart", "no", name])?;
    say(world, &["pause", name])?;
    say(world, &["ps"])?.stdout_has("(Paused)")?;
    say(world, &["unpause", name])?;
    say(world, &["kill", "-s", "TERM", name])?;
    say(world, &["wait", name])?.stdout_is("3\n")?;
    say(world, &["restart", name])?;
    container.wait_log("begun\nbegun\n")?;
    let attached = world.isolazi(["attach", name]).spawn()?;
    say(world, &["stop", name])?;
    attached.wait()?.code(3)?;
    let other = format!("{name}-b");
    say(world, &["rename", name, &other])?;
    say(world, &["commit", &other, "committed:1"])?;
    let tar = folder.path().join("root.tar").display().to_string();
    say(world, &["export", "-o", &tar, &other])?;
    say(world, &["import", &tar, "imported:1"])?;
    for image in ["committed:1", "imported:1"] {
        let cat = ["run", "--rm", image, "cat", "/tmp/file"];
        say(world, &cat)?.stdout_is("copied\n")?;
        say(world, &["rmi", image])?;
    }
    say(world, &["rm", &other])?;
    let left = say(world, &["ps", "-a"])?.stdout_text();
    ensure!(!left.contains(&other), "{left}");
    Ok(())
}

fn images_are_handled_by_every_verb(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let busybox = world.busybox();
    let there = format!("{}/{}-verbs:1", world.shared().registry, world.mode());
    say(world, &["tag", &busybox, &there])?;
    say(world, &["images"])?.stdout_has("-verbs")?;
    say(world, &["push", &there])?;
    say(world, &["rmi", &there])?;
    say(world, &["pull", &there])?;
    say(world, &["history", &there])?.stdout_has("IMAGE")?;
    say(world, &["image", "inspect", &there])?.stdout_has("-verbs")?;
    let tar = folder.path().join("image.tar").display().to_string();
    say(world, &["save", "-o", &tar, &there])?;
    say(world, &["rmi", &there])?;
    say(world, &["load", "-i", &tar])?.stdout_has("-verbs")?;
    say(world, &["rmi", &there])?;
    let registry = &world.shared().registry;
    let with_login = |line: &[&str]| {
        let command = world.isolazi(line).env("DOCKER_CONFIG", folder.path());
        command.stdin("secret\n").output()?.success()
    };
    with_login(&["login", "-u", "me", "--password-stdin", registry])?;
    with_login(&["logout", registry])?.stdout_has(registry)?;
    Ok(())
}

fn the_rest_is_handled_by_every_verb(world: &World) -> Result<()> {
    let name = format!("{}-verbs", world.mode());
    for object in ["volume", "network"] {
        say(world, &[object, "create", &name])?;
        say(world, &[object, "ls"])?.stdout_has(&name)?;
        say(world, &[object, "rm", &name])?;
    }
    say(world, &["events", "--since", "10m", "--until", "0s"])?.stdout_has("volume create")?;
    say(world, &["system", "df"])?.stdout_has("Images")?;
    say(world, &["prune", "--force"])?;
    say(world, &["vm", "status"])?.stdout_has("running")?;
    world.isolazi(["doctor"]).output()?.stdout_has("kernel")?;
    say(world, &["seccomp", "show", "default"])?.stdout_has("defaultAction")?;
    say(world, &["version"])?.stdout_has("isolazi")?;
    say(world, &["completion", "bash"])?.stdout_has("isolazi")?;
    say(world, &["man"])?.stdout_has("isolazi")?;
    say(world, &["help", "run"])?.stdout_has("--rm")?;
    Ok(())
}
