//! Commands, shims and machines that are killed at moments nobody chose.
//!
//! The moments are random, from a seed that never changes: a case that fails
//! fails again, as far as the machine's own timing allows.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use isolazi_tests::command::{eventually, same, tool};
use isolazi_tests::handmade::digest;
use isolazi_tests::host::{self, Traces, ensure_nothing_half_made};
use isolazi_tests::{Case, World};
use rustix::process::Signal;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_log_is_whole_when_its_command_is_killed,
        ],
        Alone: [
            commands_killed_at_any_moment_leave_order,
        ],
        NativeOnly: [
            shims_killed_at_any_moment_end_their_containers,
        ],
        VmAlone: [
            machines_killed_at_any_moment_lose_nothing,
        ],
    }
}

/// Numbers that look random and are the same every time (splitmix64).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn within(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }
}

/// As many as a CI machine has processors to spare for.
const THREADS: u64 = 4;
/// What is half-made for longer than this is swept away by the next command.
const SWEPT: Duration = Duration::from_secs(11);

fn commands_killed_at_any_moment_leave_order(world: &World) -> Result<()> {
    let folder = world.temp()?;
    // Natively nothing is pulled yet, so that pulling is cut short, too; one
    // machine is enough for a run of all tests.
    let fresh = world.fresh(folder.path());
    let world = if world.is_vm() { world } else { &fresh };
    let (rounds, most) = match world.is_vm() {
        true => (28, Duration::from_millis(1500)),
        false => (100, Duration::from_millis(300)),
    };
    let failed: Vec<_> = scope(|threads| {
        let run = |thread| {
            threads.spawn(move || {
                let mut moments = Moments(thread);
                for number in 0..rounds / THREADS {
                    let name = format!("killed-{thread}-{number}");
                    round(world, &mut moments, number + thread, most, &name)
                        .with_context(|| name)?;
                }
                Ok(())
            })
        };
        let running: Vec<_> = (0..THREADS).map(run).collect();
        let ended = running.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        });
        ended.filter_map(Result::err).collect()
    });
    let cleared = clear(world);
    ensure!(failed.is_empty(), "{failed:?}");
    cleared?;
    images_are_whole(world)?;
    if !world.is_vm() {
        sleep(SWEPT);
        world.isolazi(["ps", "-a"]).output()?.success()?;
        Traces::in_the_end(&world.root()).ensure_none()?;
        ensure_nothing_half_made(&world.root())?;
    }
    Ok(())
}

/// One command, killed. What it works on is made before, by one that is not.
fn round(
    world: &World,
    moments: &mut Moments,
    verb: u64,
    most: Duration,
    name: &str,
) -> Result<()> {
    let image = world.busybox();
    let other = world.image("debian");
    let sleeper = ["--name", name, &image, "sleep", "1000"];
    let started = || done(world, &[&["run", "-d"], &sleeper[..]].concat());
    let created = || done(world, &[&["create"], &sleeper[..]].concat());
    let script = "echo said; sleep 0.1";
    let command = match verb % 8 {
        0 => vec!["run", "--name", name, &image, "sh", "-c", script],
        1 => [&["run", "-d"], &sleeper[..]].concat(),
        2 => {
            started()?;
            vec!["exec", name, "sh", "-c", script]
        }
        3 => vec!["pull", &other],
        4 => {
            created()?;
            vec!["rm", "-f", name]
        }
        5 => {
            started()?;
            vec!["stop", "-t", "0", name]
        }
        6 => [&["create"], &sleeper[..]].concat(),
        _ => {
            created()?;
            vec!["start", name]
        }
    };
    let running = world.isolazi(&command).spawn()?;
    sleep(moments.within(most));
    let killed = running.signal(Signal::KILL);
    // It may have ended by itself, well or not; but it never panics.
    drop(running.wait()?);
    killed
}

fn done(world: &World, args: &[&str]) -> Result<()> {
    world.isolazi(args).output()?.success()?;
    Ok(())
}

/// Every container that there is can be listed, looked at and removed.
fn clear(world: &World) -> Result<()> {
    let names = world.isolazi(["ps", "-a", "--format", "{{.Names}}"]);
    let names = names.output()?.success()?.stdout_text();
    for name in names.lines().filter(|name| name.starts_with("killed-")) {
        done(world, &["inspect", name])?;
        done(world, &["rm", "-f", name])?;
    }
    let left = world.isolazi(["ps", "-a"]).output()?.success()?;
    left.stdout_lacks("killed-")?;
    Ok(())
}

/// Images that were being pulled run, and no file of theirs is half there.
fn images_are_whole(world: &World) -> Result<()> {
    let debian = world.image("debian");
    done(world, &["pull", &debian])?;
    for image in [world.busybox(), debian] {
        let run = world.isolazi(["run", "--rm", &image, "sh", "-c", "echo whole"]);
        run.output()?.success()?.stdout_is("whole\n")?;
    }
    let blobs = world.root().join("images/blobs/sha256");
    for blob in fs::read_dir(&blobs)?.flatten() {
        let is = digest(&fs::read(blob.path())?);
        let name = blob.file_name();
        same(
            "digest",
            &is.trim_start_matches("sha256:"),
            &name.to_str().unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// From its start, in which it makes what a container lives in, to long after.
fn shims_killed_at_any_moment_end_their_containers(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let own = world.fresh(folder.path());
    own.run(["true"]).output()?.success()?;
    let mut moments = Moments(7);
    let mut died_running = 0;
    for number in 0..40 {
        let name = format!("shim-{number}");
        let image = own.busybox();
        let script = "trap '' TERM; sleep 1000 & sleep 1000";
        let before = shims(&own);
        let run = own.isolazi(["run", "-d", "--name", &name, &image, "sh", "-c", script]);
        let running = run.spawn()?;
        let appeared = Instant::now();
        let shim = loop {
            let new = shims(&own).difference(&before).next().cloned();
            if let Some(shim) = new {
                break shim;
            }
            ensure!(appeared.elapsed().as_secs() < 5, "no shim of {name}");
        };
        let most = if number % 2 == 0 { 12 } else { 60 };
        sleep(moments.within(Duration::from_millis(most)));
        tool("kill", ["-9", &shim])?;
        let told = running.wait()?;
        ensure!(
            told.is_success() || told.stderr_text().starts_with("isolazi: "),
            "{}",
            told.complaint("no word of why")
        );
        died_running += u32::from(told.is_success());
        if told.stderr_text().contains("container's shim") {
            // It had not even heard what to do, so there is no container.
            let inspect = own.isolazi(["inspect", &name]).output()?;
            inspect.fails_with(1, "no such container")?;
            continue;
        }
        recorded_and_gone(&own, &name)?;
    }
    ensure!(
        died_running > 5,
        "only {died_running} were killed while they ran"
    );
    Traces::in_the_end(&own.root()).ensure_none()
}

/// Process ids of the shims whose containers lie in this world.
fn shims(world: &World) -> HashSet<String> {
    let root = world.root();
    let is_ours = |process: &String| {
        let log = fs::read_link(format!("/proc/{process}/fd/2"));
        // Until it executes its program, a container's first process looks like its shim.
        is_called_shim(process)
            && log.is_ok_and(|log| log.starts_with(&root))
            && host::parent(process).is_ok_and(|parent| !is_called_shim(parent.as_raw_nonzero()))
    };
    let processes = names(Path::new("/proc")).into_iter();
    processes
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .filter(is_ours)
        .collect()
}

fn is_called_shim(process: impl Display) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|it| it.starts_with(b"isolazi-shim"))
}

fn recorded_and_gone(world: &World, name: &str) -> Result<()> {
    // Until the kernel is done with the shim, the container counts as running.
    let waited = world.isolazi(["wait", name]).output()?.success()?;
    let described = world.isolazi(["inspect", name]).output()?;
    let described = described.success()?.json()?;
    let state = &described[0]["State"];
    let id = described[0]["Id"].as_str().unwrap_or_default().to_owned();
    match state["Status"].as_str() {
        Some("exited") => {
            same("exit code", &state["ExitCode"].as_i64(), &Some(137))?;
            waited.stdout_is("137\n")?;
        }
        // Its shim had not come to anything yet.
        Some("created") => {}
        _ => bail!("{name} is in {state}"),
    }
    done(world, &["rm", name])?;
    eventually(Duration::from_secs(5), "nothing is left", || {
        Ok(Traces::in_the_end(&world.root())
            .ensure_none_of(&id)
            .is_ok()
            .then_some(()))
    })
}

fn a_log_is_whole_when_its_command_is_killed(world: &World) -> Result<()> {
    let lines = 20_000;
    let script = format!("i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i + 1)); done");
    let container = world.container();
    let run = world.isolazi(["run", "--name", container.name(), &world.busybox()]);
    let mut running = run.args(["sh", "-c", &script]).spawn()?;
    running.wait_for("line 500\n")?;
    running.signal(Signal::KILL)?;
    drop(running.wait()?);
    let ended = container.wait_status("exited")?;
    same("exit code", &ended["State"]["ExitCode"].as_i64(), &Some(0))?;
    let logs = world.isolazi(["logs", container.name()]);
    let logs = logs.output()?.success()?.stdout_text();
    let expected: String = (0..lines).map(|n| format!("line {n}\n")).collect();
    ensure!(
        logs == expected,
        "{} bytes of {}",
        logs.len(),
        expected.len()
    );
    Ok(())
}

fn machines_killed_at_any_moment_lose_nothing(world: &World) -> Result<()> {
    let always = world.start(&["--restart", "always"], &["sleep", "1000"])?;
    let ended = world.start(&[], &["sh", "-c", "echo said; exit 3"])?;
    ended.wait_status("exited")?;
    // Ends are on disk at once; what was written gets there when the kernel
    // thinks so, or when it is told.
    world.run(["sync"]).output()?.success()?;
    let mut moments = Moments(23);
    for number in 0..5 {
        let told = busy_when_killed(world, &mut moments, number)?;
        let run = world.run(["echo", "again"]);
        let run = run.timeout(Duration::from_secs(120)).output()?.success();
        run?.stdout_is("again\n")?;
        always.wait_status("running")?;
        let state = &ended.inspect()?["State"];
        same("exit code", &state["ExitCode"].as_i64(), &Some(3))?;
        let logs = world.isolazi(["logs", ended.name()]).output()?.success()?;
        logs.stdout_is("said\n")?;
        for name in told {
            done(world, &["inspect", &name]).context("it was said to be there")?;
        }
        clear(world)?;
    }
    images_are_whole(world)
}

/// Kills the machine while it has a lot to do. Returns the names of the
/// containers that were said to exist by then.
fn busy_when_killed(world: &World, moments: &mut Moments, number: u32) -> Result<Vec<String>> {
    let image = world.busybox();
    let debian = world.image("debian");
    // Only what is not there is pulled.
    drop(world.isolazi(["rmi", &debian]).output()?);
    let mut making = Vec::new();
    for verb in [&["create"][..], &["run", "-d"], &["create"], &["run"]] {
        let name = format!("killed-{number}-{}", making.len());
        let make = world.isolazi(verb).args(["--name", &name, &image]);
        making.push((name, make.args(["echo", "made"]).spawn()?));
    }
    let pulling = world.isolazi(["pull", &debian]).spawn()?;
    sleep(moments.within(Duration::from_millis(2500)));
    let root = world.root().display().to_string();
    let qemu = tool("pgrep", ["-f", &format!("qemu-system.*{root}")])?;
    tool("kill", ["-9", qemu.trim()])?;
    drop(pulling.wait()?);
    let mut told = Vec::new();
    for (name, running) in making {
        if running.wait()?.is_success() {
            told.push(name);
        }
    }
    Ok(told)
}

fn names(folder: &Path) -> HashSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
