//! `events`: what happens, told afterwards and as it happens.

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::world::Container;
use isolazi_tests::{Case, World};
use rustix::process::Signal;
use serde_json::Value;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            events_tell_a_containers_life,
            events_of_a_container_that_was_removed_at_its_end,
            events_tell_of_processes_and_changes,
            events_tell_of_health_and_restarts,
            events_tell_of_volumes,
            events_tell_of_images,
            events_are_followed_until_interrupted,
            events_end_when_they_are_to,
            events_have_dockers_forms,
            events_say_what_makes_no_sense,
        ],
        VmOnly: [
            following_events_starts_no_machine,
            events_of_both_places_are_one_stream,
        ],
        VmAlone: [
            following_events_goes_on_while_the_machine_comes_and_goes,
        ],
    }
}

/// The events of a container so far, as JSON.
fn told(world: &World, filters: &[&str]) -> Result<Vec<Value>> {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let events = world.isolazi([
        "events", "--since", "0", "--until", "0s", "--format", "json",
    ]);
    let output = events.args(filters).output()?.success()?;
    let text = output.stdout_text();
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn of_container(world: &World, container: &Container<'_>) -> Result<Vec<Value>> {
    told(
        world,
        &["type=container", &format!("container={}", container.name())],
    )
}

fn actions(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|it| it["Action"].as_str())
        .collect()
}

/// Waits until these are the container's events.
fn wait_actions(world: &World, container: &Container<'_>, expected: &[&str]) -> Result<Vec<Value>> {
    let waited = eventually(world.patience(10), "the last event", || {
        let events = of_container(world, container)?;
        Ok((events.len() >= expected.len()).then_some(events))
    })?;
    same("actions", &actions(&waited), &expected.to_vec())?;
    Ok(waited)
}

fn attribute<'a>(event: &'a Value, key: &str) -> &'a str {
    event["Actor"]["Attributes"][key]
        .as_str()
        .unwrap_or_default()
}

fn events_tell_a_containers_life(world: &World) -> Result<()> {
    let container = world.container();
    let run = |args: &[&str]| -> Result<()> {
        world.isolazi(args).output()?.success()?;
        Ok(())
    };
    let name = container.name();
    let image = world.busybox();
    run(&[
        "create", "--name", name, "-l", "role=db", &image, "sleep", "1000",
    ])?;
    run(&["start", name])?;
    run(&["pause", name])?;
    run(&["unpause", name])?;
    run(&["stop", "-t", "0", name])?;
    run(&["start", name])?;
    run(&["kill", "-s", "KILL", name])?;
    run(&["wait", name])?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    run(&["rm", name])?;
    let events = wait_actions(
        world,
        &container,
        &[
            "create", "start", "pause", "unpause", "kill", "die", "stop", "start", "kill", "die",
            "destroy",
        ],
    )?;
    for event in &events {
        same("id", &event["Actor"]["ID"].as_str(), &Some(&*id))?;
        same("image", &attribute(event, "image"), &&*image)?;
        same("label", &attribute(event, "role"), &"db")?;
    }
    same("signal", &attribute(&events[4], "signal"), &"9")?;
    same("status", &attribute(&events[5], "exitCode"), &"137")?;
    let times: Vec<_> = events
        .iter()
        .filter_map(|it| it["timeNano"].as_u64())
        .collect();
    ensure!(
        times.len() == events.len() && times.is_sorted(),
        "{times:?}"
    );
    let labelled = told(
        world,
        &[
            "label=role=db",
            "event=create",
            &format!("container={name}"),
        ],
    )?;
    same("labelled", &labelled.len(), &1)
}

fn events_of_a_container_that_was_removed_at_its_end(world: &World) -> Result<()> {
    let container = world.container();
    let run = world.isolazi(["run", "--rm", "--name", container.name(), &world.busybox()]);
    run.args(["sh", "-c", "exit 3"]).output()?.code(3)?;
    let all = ["create", "attach", "start", "die", "destroy"];
    let events = wait_actions(world, &container, &all)?;
    same("status", &attribute(&events[3], "exitCode"), &"3")
}

fn events_tell_of_processes_and_changes(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let old = container.name().to_owned();
    container
        .exec(&[], &["sh", "-c", "exit 5"])
        .output()?
        .code(5)?;
    world
        .isolazi(["update", "--restart", "always", &old])
        .output()?
        .success()?;
    let new = format!("{old}-renamed");
    world.isolazi(["rename", &old, &new]).output()?.success()?;
    world.isolazi(["rename", &new, &old]).output()?.success()?;
    let events = wait_actions(
        world,
        &container,
        &[
            "create",
            "start",
            "exec_create: sh -c exit 5",
            "exec_start: sh -c exit 5",
            "exec_die",
            "update",
            "rename",
        ],
    )?;
    same("status", &attribute(&events[4], "exitCode"), &"5")?;
    let id = attribute(&events[2], "execID");
    ensure!(
        id.len() == 64 && id == attribute(&events[4], "execID"),
        "{id}"
    );
    same(
        "old name",
        &attribute(&events[6], "oldName"),
        &&*format!("/{new}"),
    )
}

fn events_tell_of_health_and_restarts(world: &World) -> Result<()> {
    let options = ["--health-cmd", "true", "--health-interval", "100ms"];
    let container = world.start(&options, &["sleep", "1000"])?;
    let healthy = ["create", "start", "health_status: healthy"];
    wait_actions(world, &container, &healthy)?;
    world
        .isolazi(["restart", "-t", "0", container.name()])
        .output()?
        .success()?;
    let again = [
        "kill",
        "die",
        "stop",
        "start",
        "restart",
        "health_status: healthy",
    ];
    wait_actions(world, &container, &[&healthy[..], &again].concat())?;
    Ok(())
}

fn events_tell_of_volumes(world: &World) -> Result<()> {
    let container = world.container();
    let volume = format!("{}-data", container.name());
    let mount = format!("{volume}:/data");
    let run = world.isolazi(["run", "--name", container.name(), "-v", &mount]);
    run.args([&world.busybox(), "true"]).output()?.success()?;
    world
        .isolazi(["rm", container.name()])
        .output()?
        .success()?;
    world
        .isolazi(["volume", "rm", &volume])
        .output()?
        .success()?;
    let events = told(world, &[&format!("volume={volume}")])?;
    same(
        "actions",
        &actions(&events),
        &vec!["create", "mount", "unmount", "destroy"],
    )?;
    same(
        "destination",
        &attribute(&events[1], "destination"),
        &"/data",
    )?;
    same("driver", &attribute(&events[0], "driver"), &"local")
}

fn events_tell_of_images(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = Image::new(&[Layer::default().file("etc/told", "of")?.tar()?])?;
    let reference = stub.serve("told", &image);
    let folder = world.temp()?;
    let archive = folder.path().join("told.tar");
    let archive = archive.to_str().context("a path of text")?;
    for args in [
        &[
            "pull",
            "-q",
            "--insecure-registry",
            &stub.address(),
            &reference,
        ][..],
        &["tag", &reference, "told:2"],
        &["save", "-o", archive, "told:2"],
        &["rmi", "told:2"],
        &["load", "-i", archive],
        &["rmi", "-f", &reference, "told:2"],
    ] {
        world.isolazi(args).output()?.success()?;
    }
    let named = told(world, &[&format!("image={reference}")])?;
    same(
        "by its name",
        &actions(&named)[..2].to_vec(),
        &vec!["pull", "untag"],
    )?;
    let second = told(world, &["image=told"])?;
    same(
        "others",
        &actions(&second),
        &vec!["tag", "save", "untag", "load", "untag"],
    )?;
    let id = second[0]["Actor"]["ID"].as_str().unwrap_or_default();
    let of_id = told(world, &[&format!("image={id}"), "event=delete"])?;
    same("deleted", &of_id.len(), &1)
}

fn events_are_followed_until_interrupted(world: &World) -> Result<()> {
    let container = world.container();
    let filter = format!("container={}", container.name());
    let mut events = world
        .isolazi(["events", "--filter", &filter, "--since", "1s"])
        .hold_stdin()
        .spawn()?;
    let run = world.isolazi(["run", "-d", "--name", container.name(), &world.busybox()]);
    run.args(["sleep", "1000"]).output()?.success()?;
    events.wait_for("container start")?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    events.wait_for("container stop")?;
    events.signal(Signal::INT)?;
    let output = events.wait()?.success()?.stderr_is("")?;
    let text = output.stdout_text();
    let words: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    same(
        "actions",
        &words,
        &vec!["create", "start", "kill", "die", "stop"],
    )
}

fn events_end_when_they_are_to(world: &World) -> Result<()> {
    let begun = std::time::Instant::now();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let soon = soon
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs()
        .to_string();
    let events = world.isolazi(["events", "--until", &soon, "--filter", "type=plugin"]);
    events.output()?.success()?.stdout_is("")?;
    let took = begun.elapsed();
    ensure!(took < world.patience(10), "{took:?}");
    Ok(())
}

fn events_have_dockers_forms(world: &World) -> Result<()> {
    let container = world.container();
    world
        .run_with(&["--name", container.name()], ["true"])
        .output()?
        .success()?;
    let filter = format!("container={}", container.name());
    let events = |format: &[&str]| -> Result<String> {
        let events = world.isolazi(["events", "--since", "1h", "--until", "0s"]);
        let events = events.args(["--filter", &filter, "--filter", "event=die"]);
        Ok(events.args(format).output()?.success()?.stdout_text())
    };
    eventually(world.patience(10), "the end", || {
        Ok((!events(&[])?.is_empty()).then_some(()))
    })?;
    let line = events(&[])?;
    let (time, rest) = line.trim_end().split_once(' ').context("no time")?;
    ensure!(
        time.len() >= "2026-01-02T15:04:05.000000000Z".len(),
        "{time}"
    );
    let expected = format!(
        " (exitCode=0, image={}, name={})",
        world.busybox(),
        container.name()
    );
    ensure!(
        rest.starts_with("container die ") && rest.ends_with(&expected),
        "{rest}"
    );
    let template = "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.From}}";
    let line = events(&["--format", template])?;
    same(
        "line",
        &line,
        &format!("container die 0 {}\n", world.busybox()),
    )
}

fn events_say_what_makes_no_sense(world: &World) -> Result<()> {
    for (options, said) in [
        (["--since", "tomorrow"], "'tomorrow' is no time"),
        (["--filter", "colour=red"], "no filter 'colour'"),
        (["--filter", "type=cat"], "no type 'cat'"),
        (["--format", "{{"], "invalid --format"),
    ] {
        let events = world.isolazi(["events", "--until", "0s"]).args(options);
        events.output()?.fails_with(1, said)?;
    }
    Ok(())
}

fn following_events_starts_no_machine(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    let events = fresh.isolazi(["events"]).hold_stdin().spawn()?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let status = fresh.bare(["vm", "status"]).output()?.success()?;
    status.stdout_has("stopped")?;
    events.signal(Signal::INT)?;
    events.wait()?.success()?.stdout_is("")?;
    Ok(())
}

fn events_of_both_places_are_one_stream(world: &World) -> Result<()> {
    let there = world.start(&[], &["sleep", "1000"])?;
    let here = world.container();
    let run = world.bare(["run", "-d", "--name", here.name(), &world.busybox()]);
    run.args(["sleep", "1000"]).output()?.success()?;
    for name in [there.name(), here.name()] {
        let rm = world.bare(["rm", "-f", name]).output()?;
        rm.success()?;
    }
    let filters = [there.name(), here.name()].map(|name| format!("container={name}"));
    let form = "{{.Actor.Attributes.name}} {{.Action}}";
    let events = world.bare(["events", "--since", "1h", "--until", "0s", "--format", form]);
    let events = events.args(filters.iter().flat_map(|it| ["--filter", it]));
    let told = events.output()?.success()?.stdout_text();
    let of = |name: &str| -> Vec<String> {
        let lines = told.lines().filter_map(|line| line.split_once(' '));
        let own = lines.filter(|(of, _)| *of == name);
        own.map(|(_, action)| action.to_owned()).collect()
    };
    let all = ["create", "start", "kill", "die", "destroy"].map(str::to_owned);
    same("there", &of(there.name()), &all.to_vec())?;
    same("here", &of(here.name()), &all.to_vec())
}

fn following_events_goes_on_while_the_machine_comes_and_goes(world: &World) -> Result<()> {
    let stop = || -> Result<()> {
        let stop = world.bare(["vm", "stop"]).timeout(world.patience(60));
        stop.output()?.success()?;
        Ok(())
    };
    stop()?;
    let mut events = world
        .bare(["events", "--filter", "event=start"])
        .timeout(world.patience(120))
        .hold_stdin()
        .spawn()?;
    for _ in 0..2 {
        let container = world.start(&[], &["sleep", "1000"])?;
        events.wait_for(&format!("name={})", container.name()))?;
        drop(container);
        stop()?;
        // Time to do what it must not.
        std::thread::sleep(std::time::Duration::from_secs(1));
        let status = world.bare(["vm", "status"]).output()?.success()?;
        status.stdout_has("stopped")?;
    }
    events.signal(Signal::INT)?;
    events.wait()?.success()?.stderr_is("")?;
    Ok(())
}
