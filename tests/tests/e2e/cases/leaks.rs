//! Many lives of containers, and what the last of them leaves.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use isolazi_tests::host::{Traces, ensure_nothing_half_made, loop_devices};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Alone: [
            many_lives_leave_nothing,
        ],
    }
}

/// Commands at a time.
const PARALLEL: usize = 20;

/// 200 lives; 60 where the processor is emulated.
fn many_lives_leave_nothing(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    // Natively in a place of its own, where everything there is can be counted.
    let world = if world.is_vm() { world } else { &fresh };
    let rounds = if world.is_vm() { 3 } else { 10 };
    live(world, "warm-up")?;
    let before = world.is_vm().then(|| Guest::ask(world)).transpose()?;
    let ids = live_in_parallel(world, rounds)?;
    ensure!(ids.len() == PARALLEL * rounds, "{} lives", ids.len());
    match before {
        Some(before) => settled(world, &before, ids.len()),
        None => {
            let traces = Traces::in_the_end(&world.root());
            for id in &ids {
                traces.ensure_none_of(id)?;
            }
            traces.ensure_nothing_open()?;
            let loops = loop_devices(&world.root());
            ensure!(loops.is_empty(), "{loops:?}");
            ensure_nothing_half_made(&world.root())
        }
    }
}

fn live_in_parallel(world: &World, rounds: usize) -> Result<Vec<String>> {
    scope(|threads| {
        let lives = |thread: usize| {
            threads.spawn(move || {
                let lives = (0..rounds).map(|n| live(world, &format!("life-{thread}-{n}")));
                lives.collect::<Result<Vec<_>>>()
            })
        };
        let running: Vec<_> = (0..PARALLEL).map(lives).collect();
        let mut ids = Vec::new();
        for thread in running {
            let ended = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            ids.extend(ended?);
        }
        Ok(ids)
    })
}

/// From `create` to `rm`. Returns the id.
fn live(world: &World, name: &str) -> Result<String> {
    let done = |args: &[&str]| -> Result<String> {
        let command = world.isolazi(args).timeout(world.patience(60));
        Ok(command.output()?.success()?.stdout_text())
    };
    let image = world.busybox();
    let id = done(&["create", "--name", name, &image, "sleep", "1000"])?;
    done(&["start", name])?;
    done(&["stop", "-t", "0", name])?;
    done(&["rm", name])?;
    Ok(id.trim().to_owned())
}

/// The agent keeps threads for a while that have nothing to do.
const SETTLING: Duration = Duration::from_secs(30);

fn settled(world: &World, before: &Guest, lives: usize) -> Result<()> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let compared = Guest::ask(world)?.ensure_like(before, lives);
        if compared.is_ok() || Instant::now() > deadline {
            return compared;
        }
        sleep(Duration::from_secs(1));
    }
}

/// What a container can see of the whole guest: these files of the kernel know
/// no namespaces.
#[derive(Debug)]
struct Guest {
    /// Open files of all processes (`/proc/sys/fs/file-nr`).
    files: usize,
    /// Control groups (`/proc/cgroups`, of any one controller).
    cgroups: usize,
    /// Threads of all processes (`/proc/loadavg`).
    threads: usize,
}

impl Guest {
    fn ask(world: &World) -> Result<Self> {
        let script = "cut -f1 /proc/sys/fs/file-nr; \
                      awk '$1 == \"memory\" { print $3 }' /proc/cgroups; \
                      cut -d/ -f2 /proc/loadavg | cut -d' ' -f1";
        let said = world.sh(script).output()?.success()?;
        let said = said.stdout_text();
        let numbers = said.lines().map(|line| Ok(line.trim().parse()?));
        let numbers: Vec<usize> = numbers
            .collect::<Result<_>>()
            .with_context(|| said.clone())?;
        let [files, cgroups, threads] = numbers[..] else {
            anyhow::bail!("the guest says {said:?}");
        };
        Ok(Self {
            files,
            cgroups,
            threads,
        })
    }

    /// A leak is one of something a life; what the kernel keeps for a while, or
    /// allots by the dozen, is less.
    fn ensure_like(&self, before: &Self, lives: usize) -> Result<()> {
        for (what, is, was) in [
            ("open files", self.files, before.files),
            ("control groups", self.cgroups, before.cgroups),
            ("threads", self.threads, before.threads),
        ] {
            ensure!(
                is < was + lives / 2,
                "{what}: {was} before {lives} lives, {is} after"
            );
        }
        Ok(())
    }
}
