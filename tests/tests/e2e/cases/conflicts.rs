//! Two commands at once that cannot both have their way: one has it, and the
//! other says in one line why not.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, Output, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            start_and_remove,
            start_and_remove_by_force,
            two_of_one_name,
            two_removals,
            stop_and_remove_by_force,
            exec_and_remove_by_force,
            rename_and_create,
            two_starts,
        ],
        Alone: [
            pull_and_remove_the_image,
            pull_and_prune,
        ],
    }
}

/// Runs two commands, the second later than the first or earlier, by another
/// lapse in each round, so that they meet in all places.
fn meet(world: &World, round: u32, first: &[&str], second: &[&str]) -> Result<[Output; 2]> {
    let rounds = rounds(world);
    let lapse = span(world) * (round / 2) / (rounds / 2).max(1);
    let swapped = round % 2 == 1;
    let (early, late) = if swapped {
        (second, first)
    } else {
        (first, second)
    };
    let early = world.isolazi(early).spawn()?;
    sleep(lapse);
    let late = world.isolazi(late).spawn()?;
    let outputs = [fine(early.wait()?)?, fine(late.wait()?)?];
    let [a, b] = outputs;
    Ok(if swapped { [b, a] } else { [a, b] })
}

fn rounds(world: &World) -> u32 {
    if world.is_vm() { 12 } else { 20 }
}

/// How far apart two commands are at the most: about as long as one takes.
fn span(world: &World) -> Duration {
    Duration::from_millis(if world.is_vm() { 200 } else { 30 })
}

/// What a process ends with that is killed; it ran, so nobody has to explain.
const KILLED: i32 = 137;

/// Went well, or has one line that names no system call's error.
fn fine(output: Output) -> Result<Output> {
    if output.is_success() || output.exit_code() == Some(KILLED) {
        return Ok(output);
    }
    let said = output.stderr_text();
    for raw in ["os error", "No such file", "not empty", "does not answer"] {
        ensure!(
            !said.contains(raw),
            "{}",
            output.complaint("that is no explanation")
        );
    }
    output.has_one_complaint()
}

fn done(world: &World, args: &[&str]) -> Result<()> {
    world.isolazi(args).output()?.success()?;
    Ok(())
}

fn is_there(world: &World, name: &str) -> Result<bool> {
    Ok(world.isolazi(["inspect", name]).output()?.is_success())
}

/// In each round, with the name of a new container.
fn each_round(world: &World, round: impl Fn(u32, &str) -> Result<()>) -> Result<()> {
    for number in 0..rounds(world) {
        let container = world.container();
        round(number, container.name()).with_context(|| format!("round {number}"))?;
    }
    Ok(())
}

fn create(world: &World, name: &str) -> Result<()> {
    let image = world.busybox();
    done(world, &["create", "--name", name, &image, "sleep", "1000"])
}

fn run(world: &World, name: &str) -> Result<()> {
    let image = world.busybox();
    done(
        world,
        &["run", "-d", "--name", name, &image, "sleep", "1000"],
    )
}

fn start_and_remove(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        create(world, name)?;
        let [started, removed] = meet(world, round, &["start", name], &["rm", name])?;
        if removed.is_success() {
            ensure!(!started.is_success(), "what was started is removed");
            started.stderr_has("no such container")?;
            ensure!(!is_there(world, name)?, "it is there");
        } else {
            started.success()?;
            removed.stderr_has("running")?;
        }
        Ok(())
    })
}

fn start_and_remove_by_force(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        create(world, name)?;
        let [started, removed] = meet(world, round, &["start", name], &["rm", "-f", name])?;
        removed.success()?;
        ensure!(!is_there(world, name)?, "it is there");
        if !started.is_success() {
            started.stderr_has("container")?;
        }
        Ok(())
    })
}

fn two_of_one_name(world: &World) -> Result<()> {
    let image = world.busybox();
    each_round(world, |round, name| {
        let create = ["create", "--name", name, &image, "true"];
        let [one, two] = meet(world, round, &create, &create)?;
        same("successes", &(successes(&[&one, &two])), &1)?;
        let loser = if one.is_success() { two } else { one };
        loser.stderr_has("taken")?;
        let listed = world.isolazi(["ps", "-aq", "--filter", &format!("name=^{name}$")]);
        let listed = listed.output()?.success()?.stdout_text();
        same("containers", &listed.lines().count(), &1)
    })
}

fn successes(outputs: &[&Output]) -> usize {
    outputs.iter().filter(|it| it.is_success()).count()
}

fn two_removals(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        run(world, name)?;
        let remove = ["rm", "-f", name];
        let outputs = meet(world, round, &remove, &remove)?;
        ensure!(outputs.iter().any(Output::is_success), "{outputs:?}");
        for output in outputs.into_iter().filter(|it| !it.is_success()) {
            output.stderr_has("no such container")?;
        }
        ensure!(!is_there(world, name)?, "it is there");
        Ok(())
    })
}

fn stop_and_remove_by_force(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        run(world, name)?;
        let stop = ["stop", "-t", "0", name];
        let [stopped, removed] = meet(world, round, &stop, &["rm", "-f", name])?;
        removed.success()?;
        if !stopped.is_success() {
            stopped.stderr_has("no such container")?;
        }
        ensure!(!is_there(world, name)?, "it is there");
        Ok(())
    })
}

fn exec_and_remove_by_force(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        run(world, name)?;
        let exec = ["exec", name, "sh", "-c", "echo in; sleep 0.05"];
        let [_, removed] = meet(world, round, &exec, &["rm", "-f", name])?;
        removed.success()?;
        ensure!(!is_there(world, name)?, "it is there");
        Ok(())
    })
}

fn rename_and_create(world: &World) -> Result<()> {
    let image = world.busybox();
    each_round(world, |round, name| {
        let other = world.container();
        create(world, other.name())?;
        let rename = ["rename", other.name(), name];
        let make = ["create", "--name", name, &image, "true"];
        let [renamed, made] = meet(world, round, &rename, &make)?;
        same("successes", &(successes(&[&renamed, &made])), &1)?;
        ensure!(is_there(world, name)?, "nobody has the name");
        same(
            "the old name is used",
            &is_there(world, other.name())?,
            &made.is_success(),
        )?;
        let loser = if made.is_success() { renamed } else { made };
        loser.stderr_has("taken")?;
        Ok(())
    })
}

/// Starting what runs is fine, as with Docker.
fn two_starts(world: &World) -> Result<()> {
    each_round(world, |round, name| {
        create(world, name)?;
        let start = ["start", name];
        for output in meet(world, round, &start, &start)? {
            output.success()?;
        }
        Ok(())
    })
}

/// Whatever the other command removes, an image is there as a whole or not at all.
fn pull_beside(world: &World, other: &[&str]) -> Result<()> {
    let image = world.image("configured");
    for round in 0..rounds(world) {
        let [pulled, removed] = meet(world, round, &["pull", &image], other)?;
        pulled.success()?;
        if !removed.is_success() {
            removed.stderr_has("no such image")?;
        }
        done(world, &["images"])?;
        let run = world.isolazi(["run", "--rm", &image]).output()?.success();
        let ran = run.with_context(|| format!("round {round}"))?;
        ran.stdout_has("greeting=hello")?;
        if round % 3 == 0 {
            drop(world.isolazi(["rmi", "-f", &image]).output()?);
        }
    }
    done(world, &["pull", &image])
}

fn pull_and_remove_the_image(world: &World) -> Result<()> {
    pull_beside(world, &["rmi", &world.image("configured")])
}

fn pull_and_prune(world: &World) -> Result<()> {
    pull_beside(world, &["image", "prune", "-a", "-f"])?;
    done(world, &["pull", &world.busybox()])
}
