//! A container natively, from nothing to its end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::fixture::{find, static_true};
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Mode, World};

use crate::Bench;
use crate::measure::{Pairs, time};
use crate::runc::Bundle;
use crate::table::Row;

const PAIRS: usize = 60;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        anyhow::bail!("{reason}");
    }
    ensure!(find("runc").is_some(), "runc is not installed");
    let folder = bench.folder.path().join("start");
    fs::create_dir_all(&folder)?;
    let program = static_true(&folder)?;
    let world = bench.world(Mode::Native, "start/native")?;
    let image = pulled(&world, &program, "true")?;
    let mut bundle = Bundle::new(&folder, &program, &world)?;
    let pairs = Pairs::measure(
        PAIRS,
        || {
            let run = world.isolazi(["run", "--rm", "--network", "none", &image, "/true"]);
            time(&mut run.into_command())
        },
        || time(&mut bundle.run()),
    )?;
    Ok(vec![Row::of_pairs(
        "run --rm of a static true",
        "runc run, the same filter",
        &pairs,
        1.0,
    )])
}

/// Makes an image of `program`, which is called `name` in there, and pulls it.
pub(crate) fn pulled(world: &World, program: &Path, name: &str) -> Result<String> {
    let stub = Stub::start()?;
    let layer = Layer::default().program(name, &fs::read(program)?)?;
    let image = stub.serve(name, &Image::new(&[layer.tar()?])?);
    let pull = world.isolazi(["pull", &image]);
    pull.timeout(Duration::from_secs(120)).output()?.success()?;
    Ok(image)
}
