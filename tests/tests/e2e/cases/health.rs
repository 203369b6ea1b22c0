//! Health checks: what the user or the image asks, and what comes of it.

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::handmade::{Image, Layer, architecture};
use isolazi_tests::stub::Stub;
use isolazi_tests::world::Container;
use isolazi_tests::{Case, World};
use serde_json::{Value, json};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_container_becomes_healthy_and_falls_ill,
            a_probe_that_takes_too_long_counts_as_failed,
            failures_do_not_count_while_it_starts,
            a_probe_is_the_containers_own_user_and_folder,
            a_probe_that_cannot_run_says_why,
            a_paused_container_is_not_probed,
            a_restart_begins_anew,
            probes_stop_with_the_container,
            the_images_check_is_used_and_can_be_left_out,
            health_options_that_make_no_sense,
        ],
    }
}

/// Starts busybox with a check every 100 ms.
fn start<'a>(world: &'a World, options: &[&str], check: &str) -> Result<Container<'a>> {
    let mut all = vec!["--health-interval", "100ms", "--health-cmd", check];
    all.extend(options);
    world.start(&all, &["sleep", "1000"])
}

/// Waits until the container's health is as `fits` wants it.
fn wait_health(
    world: &World,
    container: &Container<'_>,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(world.patience(20), what, || {
        let health = container.inspect()?["State"]["Health"].take();
        Ok(fits(&health).then_some(health))
    })
}

pub(super) fn wait_status(world: &World, container: &Container<'_>, status: &str) -> Result<Value> {
    wait_health(world, container, status, |it| it["Status"] == status)
}

fn listed(world: &World, container: &Container<'_>, options: &[&str]) -> Result<String> {
    let name = format!("name=^{}$", container.name());
    let ps = world.isolazi(["ps", "--format", "{{.Status}}", "--filter", &name]);
    Ok(ps.args(options).output()?.success()?.stdout_text())
}

fn a_container_becomes_healthy_and_falls_ill(world: &World) -> Result<()> {
    let check = "test -e /well && echo fine || { echo not >&2; exit 3; }";
    let container = start(world, &["--health-retries", "2"], check)?;
    let health = wait_status(world, &container, "unhealthy")?;
    ensure!(health["FailingStreak"].as_u64() >= Some(2), "{health}");
    same("exit code", &health["Log"][0]["ExitCode"], &json!(3))?;
    same("output", &health["Log"][0]["Output"], &json!("not\n"))?;
    ensure!(
        health["Log"][0]["Start"].as_str() < health["Log"][0]["End"].as_str(),
        "{health}"
    );
    let status = listed(world, &container, &["--filter", "health=unhealthy"])?;
    ensure!(status.ends_with(" (unhealthy)\n"), "{status}");
    container
        .exec(&[], &["touch", "/well"])
        .output()?
        .success()?;
    let health = wait_status(world, &container, "healthy")?;
    same("streak", &health["FailingStreak"], &json!(0))?;
    let status = listed(world, &container, &[])?;
    ensure!(
        status.starts_with("Up ") && status.ends_with(" (healthy)\n"),
        "{status}"
    );
    same(
        "filtered",
        &listed(world, &container, &["--filter", "health=none"])?,
        &String::new(),
    )?;
    let health = wait_health(world, &container, "five results", |it| {
        it["Log"].as_array().is_some_and(|log| log.len() == 5)
    })?;
    same("last output", &health["Log"][4]["Output"], &json!("fine\n"))?;
    container.exec(&[], &["rm", "/well"]).output()?.success()?;
    wait_status(world, &container, "unhealthy")?;
    Ok(())
}

fn a_probe_that_takes_too_long_counts_as_failed(world: &World) -> Result<()> {
    let options = ["--health-timeout", "0.3s", "--health-retries", "1"];
    let container = start(world, &options, "echo begun; exec sleep 777")?;
    let health = wait_status(world, &container, "unhealthy")?;
    same("exit code", &health["Log"][0]["ExitCode"], &json!(-1))?;
    let output = health["Log"][0]["Output"].as_str().unwrap_or_default();
    ensure!(
        output.contains("exceeded timeout (300ms): begun"),
        "{output}"
    );
    // At most the one that is under way is there.
    let top = world
        .isolazi(["top", container.name()])
        .output()?
        .success()?;
    let probes = top.stdout_text().matches("sleep 777").count();
    ensure!(probes <= 1, "{probes} probes");
    Ok(())
}

fn failures_do_not_count_while_it_starts(world: &World) -> Result<()> {
    let options = [
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "50ms",
        "--health-interval",
        "1h",
        "--health-retries",
        "1",
    ];
    let container = world.start(
        &[&options[..], &["--health-cmd", "test -e /well"]].concat(),
        &["sleep", "1000"],
    )?;
    let health = wait_health(world, &container, "three failures", |it| {
        it["Log"].as_array().is_some_and(|log| log.len() >= 3)
    })?;
    same("status", &health["Status"], &json!("starting"))?;
    same("streak", &health["FailingStreak"], &json!(0))?;
    let status = listed(world, &container, &["--filter", "health=starting"])?;
    ensure!(status.ends_with(" (health: starting)\n"), "{status}");
    container
        .exec(&[], &["touch", "/well"])
        .output()?
        .success()?;
    wait_status(world, &container, "healthy")?;
    Ok(())
}

fn a_probe_is_the_containers_own_user_and_folder(world: &World) -> Result<()> {
    let options = ["-u", "alice", "-w", "/tmp", "-e", "A=from the container"];
    let container = start(world, &options, "id -un; pwd; echo $A")?;
    let health = wait_status(world, &container, "healthy")?;
    let output = json!("alice\n/tmp\nfrom the container\n");
    same("output", &health["Log"][0]["Output"], &output)?;
    let long = start(world, &[], "yes 0123456789 | head -c 10000")?;
    let health = wait_status(world, &long, "healthy")?;
    let output = health["Log"][0]["Output"].as_str().unwrap_or_default();
    same("length", &output.len(), &(4096 + 3))?;
    Ok(())
}

fn a_probe_that_cannot_run_says_why(world: &World) -> Result<()> {
    let container = start(world, &["--health-retries", "1"], "exit 0")?;
    wait_status(world, &container, "healthy")?;
    container
        .exec(&[], &["rm", "/bin/sh"])
        .output()?
        .success()?;
    let health = wait_status(world, &container, "unhealthy")?;
    let last = health["Log"].as_array().and_then(|log| log.last());
    let last = last.context("no result")?;
    same("exit code", &last["ExitCode"], &json!(-1))?;
    ensure!(
        last["Output"]
            .as_str()
            .unwrap_or_default()
            .contains("/bin/sh"),
        "{last}"
    );
    Ok(())
}

fn a_paused_container_is_not_probed(world: &World) -> Result<()> {
    let container = start(world, &[], "true")?;
    wait_status(world, &container, "healthy")?;
    world
        .isolazi(["pause", container.name()])
        .output()?
        .success()?;
    let seen = container.inspect()?["State"]["Health"].take();
    std::thread::sleep(std::time::Duration::from_millis(500));
    same("health", &container.inspect()?["State"]["Health"], &seen)?;
    let status = listed(world, &container, &[])?;
    ensure!(status.ends_with(" (Paused)\n"), "{status}");
    world
        .isolazi(["unpause", container.name()])
        .output()?
        .success()?;
    wait_health(world, &container, "a further probe", |it| *it != seen)?;
    Ok(())
}

fn a_restart_begins_anew(world: &World) -> Result<()> {
    let options = ["--health-start-period", "1h", "--health-retries", "1"];
    let container = start(world, &options, "test -e /well")?;
    container
        .exec(&[], &["touch", "/well"])
        .output()?
        .success()?;
    wait_status(world, &container, "healthy")?;
    container.exec(&[], &["rm", "/well"]).output()?.success()?;
    wait_status(world, &container, "unhealthy")?;
    let restart = world.isolazi(["restart", "-t", "0", container.name()]);
    restart.output()?.success()?;
    let health = container.inspect()?["State"]["Health"].take();
    same("status", &health["Status"], &json!("starting"))
}

fn probes_stop_with_the_container(world: &World) -> Result<()> {
    let container = start(world, &[], "true")?;
    wait_status(world, &container, "healthy")?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    let seen = container.inspect()?["State"]["Health"].take();
    same("status", &seen["Status"], &json!("unhealthy"))?;
    std::thread::sleep(std::time::Duration::from_millis(400));
    same("health", &container.inspect()?["State"]["Health"], &seen)?;
    let status = listed(world, &container, &["-a"])?;
    ensure!(
        status.starts_with("Exited (137)") && !status.contains("health"),
        "{status}"
    );
    Ok(())
}

fn the_images_check_is_used_and_can_be_left_out(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let check = json!({ "Test": ["CMD", "/true"], "Interval": 100_000_000, "Retries": 2 });
    let image = checked_image(&check)?;
    let reference = stub.serve("checked", &image);
    let address = stub.address();
    let run = |options: &[&str]| -> Result<Container<'_>> {
        let container = world.container();
        world
            .isolazi([
                "run",
                "-d",
                "--insecure-registry",
                &address,
                "--name",
                container.name(),
            ])
            .args(options)
            .args([&reference])
            .output()?
            .success()?;
        Ok(container)
    };
    let container = run(&["--health-retries", "7"])?;
    wait_status(world, &container, "healthy")?;
    let described = container.inspect()?["Config"]["Healthcheck"].take();
    let expected = json!({ "Test": ["CMD", "/true"], "Interval": 100_000_000, "Retries": 7 });
    same("Healthcheck", &described, &expected)?;
    let made = world.isolazi(["commit", container.name(), "checked-again"]);
    made.output()?.success()?;
    let image = world
        .isolazi(["image", "inspect", "checked-again"])
        .output()?;
    let image = image.success()?.json()?;
    same("committed", &image[0]["Config"]["Healthcheck"], &expected)?;
    let without = run(&["--no-healthcheck"])?;
    let described = without.inspect()?;
    same("Health", &described["State"]["Health"], &Value::Null)?;
    same(
        "Test",
        &described["Config"]["Healthcheck"],
        &json!({ "Test": ["NONE"] }),
    )?;
    let status = listed(world, &without, &["--filter", "health=none"])?;
    ensure!(!status.is_empty() && !status.contains('('), "{status}");
    Ok(())
}

/// A program that waits, and one that succeeds.
fn checked_image(check: &Value) -> Result<Image> {
    let folder = tempfile::tempdir()?;
    let nothing = std::fs::read(isolazi_tests::fixture::static_true(folder.path())?)?;
    let wait = std::fs::read(isolazi_tests::fixture::small_init(folder.path())?)?;
    let layer = Layer::default()
        .program("true", &nothing)?
        .program("init", &wait)?
        .tar()?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": ["/init"], "Healthcheck": check },
        "rootfs": { "type": "layers", "diff_ids": [isolazi_tests::handmade::digest(&layer)] },
    });
    let compressed = isolazi_tests::handmade::gzip(&layer)?;
    Ok(Image::with_config(
        config.to_string().into_bytes(),
        &[compressed],
    ))
}

fn health_options_that_make_no_sense(world: &World) -> Result<()> {
    for (options, said) in [
        (&["--health-interval", "1s"][..], "there is no health check"),
        (
            &["--health-cmd", "x", "--health-timeout", "5"],
            "use a number with ms, s, m or h",
        ),
        (
            &["--health-cmd", "x", "--health-timeout", "1us"],
            "cannot be less than 1ms",
        ),
        (
            &["--health-cmd", "x", "--no-healthcheck"],
            "cannot be used with",
        ),
        (&["--health-cmd", "x", "--health-retries", "-1"], "-1"),
    ] {
        let run = world.isolazi(["run", "--rm"]).args(options);
        let output = run.args([&world.busybox(), "true"]).output()?;
        ensure!(!output.is_success(), "{options:?} is accepted");
        output.stderr_has(said)?.has_one_complaint()?;
    }
    Ok(())
}
