//! Distributions of WSL, by a stand-in for `wsl.exe`: how they are made, who keeps
//! them alive, and what is said where WSL is missing or cannot do it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::host;
use isolazi_tests::network::{Outside, ip};
use isolazi_tests::{Case, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Wsl2Only: [
            a_distribution_is_imported_and_starts_and_stops,
            containers_outlive_their_commands,
            a_hold_that_is_killed_is_replaced,
            what_is_terminated_comes_back,
            what_is_unregistered_is_made_anew,
            another_agent_takes_the_place_of_the_first,
            an_idle_distribution_ends,
            what_wsl_lacks_is_said_in_a_line,
            folders_have_the_paths_of_the_distribution,
            names_are_asked_of_the_distributions_servers,
            whoever_stays_with_a_container_hears_of_its_shims_death,
        ],
        Wsl2Alone: [
            windows_is_where_the_distribution_has_its_gateway,
        ],
    }
}

/// What a distribution lives on for with nothing attached, by the stand-in.
const IDLE: Duration = Duration::from_secs(3);

/// A world of the case's own, and the folder that it goes with.
struct Own {
    world: World,
    _folder: tempfile::TempDir,
}

fn own(world: &World) -> Result<Own> {
    let folder = world.temp()?;
    Ok(Own {
        world: world.fresh(folder.path()),
        _folder: folder,
    })
}

/// What `vm status` says.
fn state(world: &World) -> Result<String> {
    let status = world.bare(["vm", "status", "--format", "{{.State}}"]);
    Ok(status.output()?.success()?.stdout_text().trim().to_owned())
}

/// The name of the only distribution.
fn distribution(world: &World) -> Result<String> {
    let output = world.wsl(["--list", "--quiet"]).output()?.success()?;
    let units = output.stdout.chunks_exact(2);
    let units: Vec<u16> = units.map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
    let text = String::from_utf16(&units)?;
    Ok(text.lines().next().context("no distribution")?.to_owned())
}

fn record(world: &World) -> Result<Value> {
    let text = fs::read(world.root().join("machine/wsl2.json"))?;
    Ok(serde_json::from_slice(&text)?)
}

fn a_distribution_is_imported_and_starts_and_stops(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    same("state", &state(world)?.as_str(), &"stopped")?;
    ensure!(
        !world.root().join("machine/wsl2").exists(),
        "made too early"
    );
    world
        .bare(["vm", "start"])
        .output()?
        .success()?
        .stdout_has("running")?;
    same("state", &state(world)?.as_str(), &"running")?;
    let name = distribution(world)?;
    ensure!(name.starts_with("isolazi-"), "{name}");
    ensure!(
        !world.root().join("machine/rootfs.tar").exists(),
        "left behind"
    );
    let container = world.start(&[], &["sleep", "1000"])?;
    world
        .bare(["vm", "stop"])
        .output()?
        .success()?
        .stdout_has("stopped")?;
    same("state", &state(world)?.as_str(), &"stopped")?;
    // Known without starting anything.
    ensure!(container.is_listed()?, "it is forgotten");
    same("state", &state(world)?.as_str(), &"stopped")?;
    world
        .bare(["vm", "stop"])
        .output()?
        .success()?
        .stdout_has("already")?;
    world
        .isolazi(["start", container.name()])
        .output()?
        .success()?;
    container.exec(&[], &["true"]).output()?.success()?;
    Ok(())
}

fn containers_outlive_their_commands(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    std::thread::sleep(IDLE + Duration::from_secs(1));
    same("state", &state(world)?.as_str(), &"running")?;
    same(
        "status",
        &container.inspect()?["State"]["Status"],
        &"running".into(),
    )
}

/// The `wsl.exe` that holds the world's distribution.
fn hold(world: &World) -> Result<Option<Pid>> {
    let name = distribution(world)?;
    let has = |words: &[String], word: &str| words.iter().any(|it| it == word);
    let found = host::process(|words| {
        words[0].ends_with("wsl.exe") && has(words, "wsl-hold") && has(words, &name)
    })?;
    Ok(found.map(|(pid, _)| pid))
}

fn a_hold_that_is_killed_is_replaced(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    let container = world.start(&[], &["sleep", "1000"])?;
    let started = || -> Result<_> { Ok(container.inspect()?["State"]["StartedAt"].clone()) };
    let before = started()?;
    let first = hold(world)?.context("nobody holds")?;
    kill_process(first, Signal::KILL)?;
    // A command that comes while the killed one is still ending leaves it to the next.
    let second = eventually(Duration::from_secs(10), "another holds", || {
        container.exec(&[], &["true"]).output()?.success()?;
        Ok(hold(world)?.filter(|it| *it != first))
    })?;
    std::thread::sleep(IDLE + Duration::from_secs(1));
    container.exec(&[], &["true"]).output()?.success()?;
    same("its start", &started()?, &before)?;
    // Killed while nobody looks, it takes the distribution along.
    kill_process(second, Signal::KILL)?;
    let timeout = IDLE + Duration::from_secs(5);
    eventually(timeout, "the end of the distribution", || {
        Ok((state(world)? == "stopped").then_some(()))
    })?;
    let ended = container.inspect()?;
    same("status", &ended["State"]["Status"], &"exited".into())?;
    same("code", &ended["State"]["ExitCode"], &137.into())
}

fn what_is_terminated_comes_back(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    let lost = world.start(&[], &["sleep", "1000"])?;
    let back = world.start(&["--restart", "always"], &["sleep", "1000"])?;
    let name = distribution(world)?;
    world.wsl(["--terminate", &name]).output()?.success()?;
    same("state", &state(world)?.as_str(), &"stopped")?;
    same(
        "of the lost",
        &lost.inspect()?["State"]["Status"],
        &"exited".into(),
    )?;
    back.wait_status("running")?;
    back.exec(&[], &["true"]).output()?.success()?;
    Ok(())
}

fn what_is_unregistered_is_made_anew(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    world.run(["true"]).output()?.success()?;
    let name = distribution(world)?;
    world.wsl(["--unregister", &name]).output()?.success()?;
    same("state", &state(world)?.as_str(), &"stopped")?;
    world
        .run(["echo", "again"])
        .output()?
        .success()?
        .stdout_is("again\n")?;
    Ok(())
}

fn another_agent_takes_the_place_of_the_first(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    let container = world.start(&[], &["sleep", "1000"])?;
    let agent = world.root().join("machine/wsl2/rootfs/isolazi-agent");
    let before = fs::metadata(&agent)?.ino();
    let mut record = record(world)?;
    let right = record["agent"].clone();
    record["agent"] = format!("sha256:{}", "0".repeat(64)).into();
    fs::write(
        world.root().join("machine/wsl2.json"),
        serde_json::to_vec(&record)?,
    )?;
    container.exec(&[], &["true"]).output()?.success()?;
    ensure!(fs::metadata(&agent)?.ino() != before, "it is the same");
    same("agent", &self::record(world)?["agent"], &right)?;
    same(
        "status",
        &container.inspect()?["State"]["Status"],
        &"running".into(),
    )
}

fn an_idle_distribution_ends(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    fs::create_dir_all(world.root())?;
    fs::write(
        world.root().join("config.toml"),
        "[machine]\nidle-stop = \"2s\"\n",
    )?;
    let container = world.start(&[], &["sleep", "1000"])?;
    std::thread::sleep(IDLE + Duration::from_secs(3));
    same("state", &state(world)?.as_str(), &"running")?;
    world
        .isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    eventually(world.patience(10), "the end of the distribution", || {
        Ok((state(world)? == "stopped").then_some(()))
    })?;
    world.run(["true"]).output()?.success()?;
    Ok(())
}

fn what_wsl_lacks_is_said_in_a_line(world: &World) -> Result<()> {
    let own = own(world)?;
    let world = &own.world;
    let nowhere = world.temp()?;
    for (variable, value, said) in [
        (
            "PATH",
            nowhere.path().to_str().unwrap_or_default(),
            "wsl --install",
        ),
        (
            "ISOLAZI_STAND_IN_WSL_FAULT",
            "virtualization",
            "virtualization is off",
        ),
        ("ISOLAZI_STAND_IN_WSL_FAULT", "old", "wsl --update"),
    ] {
        let run = world.run(["true"]).env(variable, value);
        run.output()?.fails_with(125, said)?.has_one_complaint()?;
    }
    world.run(["true"]).output()?.success()?;
    // Somebody else's, of version 1.
    let name = distribution(world)?;
    world.wsl(["--terminate", &name]).output()?.success()?;
    fs::write(world.home_of_stand_in().join(&name).join("version"), "1")?;
    fs::remove_file(world.root().join("machine/wsl2.json"))?;
    let refused = world.run(["true"]).output()?;
    refused
        .fails_with(125, "wsl --set-version")?
        .has_one_complaint()?;
    fs::write(world.home_of_stand_in().join(&name).join("version"), "2")?;
    Ok(())
}

fn folders_have_the_paths_of_the_distribution(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::write(folder.path().join("a file"), "content")?;
    let volume = format!("{}:/data:ro", folder.path().display());
    let run = world.run_with(&["-v", &volume], ["cat", "/data/a file"]);
    run.output()?.success()?.stdout_is("content")?;
    let written = format!("{}:/data", folder.path().display());
    let run = world.run_with(&["-v", &written], ["sh", "-c", "echo 1 > /data/new"]);
    run.output()?.success()?;
    same(
        "content",
        &fs::read_to_string(folder.path().join("new"))?.as_str(),
        &"1\n",
    )
}

fn names_are_asked_of_the_distributions_servers(world: &World) -> Result<()> {
    let own = own(world)?;
    let own = &own.world;
    own.run(["true"]).output()?.success()?;
    let location = own
        .home_of_stand_in()
        .join(distribution(own)?)
        .join("location");
    let root = std::path::PathBuf::from(fs::read_to_string(location)?);
    let servers = "nameserver 127.0.0.1\nnameserver 192.0.2.77\n";
    fs::write(root.join("etc/resolv.conf"), servers)?;
    let asked = |options: &[&str]| {
        let cat = own.run_with(options, ["cat", "/etc/resolv.conf"]);
        Ok::<_, anyhow::Error>(cat.output()?.success()?.stdout_text())
    };
    same("servers", &asked(&[])?.trim(), &"nameserver 192.0.2.77")?;
    let other = asked(&["--dns", "192.0.2.9"])?;
    same("servers", &other.trim(), &"nameserver 192.0.2.9")?;
    Ok(())
}

fn whoever_stays_with_a_container_hears_of_its_shims_death(world: &World) -> Result<()> {
    let container = world.container();
    let script = "echo in; exec sleep 98765";
    let options = ["--name", container.name()];
    let mut run = world
        .run_with(&options, ["sh", "-c", script])
        .timeout(Duration::from_secs(20))
        .spawn()?;
    run.wait_for("in")?;
    let sleeps = || host::process(|words| words == ["sleep", "98765", ""]);
    let (command, _) = eventually(Duration::from_secs(5), "its command", sleeps)?;
    let shim = host::parent(command.as_raw_nonzero())?;
    kill_process(shim, Signal::KILL)?;
    let told = run.wait()?;
    ensure!(!told.is_success(), "a container that was killed went well");
    told.has_one_complaint()?;
    container.wait_status("exited")?;
    Ok(())
}

/// The tests' network is the distribution's, and what is outside of it stands for Windows.
fn windows_is_where_the_distribution_has_its_gateway(world: &World) -> Result<()> {
    let hosts = || -> Result<String> {
        let hosts = world.run(["grep", "host.isolazi.internal", "/etc/hosts"]);
        Ok(hosts.output()?.success()?.stdout_text())
    };
    ensure!(hosts()?.starts_with("172.20.0.1\t"), "{}", hosts()?);
    let windows = Outside::new()?;
    let far = windows.far().to_string();
    ip(&["route", "add", "default", "via", &far])?;
    ensure!(hosts()?.starts_with(&format!("{far}\t")), "{}", hosts()?);
    let page = "mkdir -p /tmp/none; exec busybox httpd -f -p 8080 -h /tmp/none";
    let server = windows.run(page).spawn()?;
    let url = "http://host.docker.internal:8080/";
    eventually(world.patience(10), "Windows answers", || {
        let got = world.run(["wget", "-q", "-O", "-", url]).output()?;
        // There is no page, but there is a server.
        Ok(got.stderr_text().contains("404").then_some(()))
    })?;
    drop(server);
    Ok(())
}
