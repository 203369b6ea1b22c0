//! `ps` of many containers, natively.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::fixture::find;
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Mode, World};

use crate::Bench;
use crate::measure::{median, time};
use crate::table::Row;

const CONTAINERS: usize = 200;
const RUNNING: usize = 100;
const ROUNDS: usize = 40;
const AIM: usize = 30;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Native, "listing/native")?;
    let image = sleeper(&world)?;
    let result = fill(&world, &image).and_then(|()| list(&world));
    let cleared = clear(&world);
    let rows = result?;
    cleared?;
    Ok(rows)
}

/// An image of busybox as `sleep` and nothing else.
pub(crate) fn sleeper(world: &World) -> Result<String> {
    let busybox = find("busybox").context("busybox-static is not installed")?;
    let stub = Stub::start()?;
    let layer = Layer::default().program("sleep", &fs::read(busybox)?)?;
    let image = stub.serve("sleeper", &Image::new(&[layer.tar()?])?);
    world.isolazi(["pull", &image]).output()?.success()?;
    Ok(image)
}

/// Half of the containers sleep, the others have ended.
fn fill(world: &World, image: &str) -> Result<()> {
    for number in 0..CONTAINERS {
        let name = format!("bench-{number}");
        let seconds = if number < RUNNING { "100000" } else { "0" };
        let run = world.isolazi(["run", "-d", "--name", &name, image]);
        run.args(["/sleep", seconds]).output()?.success()?;
    }
    let all = world
        .isolazi(["ps", "-aq"])
        .output()?
        .success()?
        .stdout_text();
    ensure!(
        all.lines().count() == CONTAINERS,
        "not all are there: {all}"
    );
    let running = world
        .isolazi(["ps", "-q"])
        .output()?
        .success()?
        .stdout_text();
    let running = running.lines().count();
    ensure!(running == RUNNING, "{running} are running");
    Ok(())
}

fn list(world: &World) -> Result<Vec<Row>> {
    let median_of = |args: &[&str]| -> Result<f64> {
        let once = || time(&mut world.isolazi(args).into_command());
        once()?;
        let times = (0..ROUNDS).map(|_| Ok(once()?.as_secs_f64()));
        Ok(median(times.collect::<Result<Vec<_>>>()?.into_iter()))
    };
    let all = median_of(&["ps", "-a"])?;
    let running = median_of(&["ps"])?;
    Ok(vec![
        Row::of_time("ps -a, 100 of 200 running", all, AIM),
        Row::of_time("ps, 100 of 200 running", running, AIM),
    ])
}

pub(crate) fn clear(world: &World) -> Result<()> {
    let all = world
        .isolazi(["ps", "-aq"])
        .output()?
        .success()?
        .stdout_text();
    let ids: Vec<&str> = all.lines().collect();
    if ids.is_empty() {
        return Ok(());
    }
    world.isolazi(["rm", "-f"]).args(&ids).output()?.success()?;
    Ok(())
}
