//! What a container writes on its way into its log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use isolazi_tests::Mode;
use isolazi_tests::fixture::find;
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::surroundings::native_lacks;

use crate::Bench;
use crate::measure::{Pairs, time};
use crate::podman::Podman;
use crate::table::Row;

const PAIRS: usize = 3;
/// What the container writes, in lines of [`LINE`].
const BYTES: usize = 1 << 30;
const LINE: &str = "2026-01-02T03:04:05Z INFO a line as a server writes one: GET /index.html 200\n";
const NAME: &str = "bench-logs";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    let busybox = find("busybox").context("busybox-static is not installed")?;
    let folder = bench.folder.path().join("logs");
    let world = bench.world(Mode::Native, "logs")?;
    let podman = Podman::new(folder.join("podman"))?;
    let lines = folder.join("lines");
    write_lines(&lines)?;
    let volume = format!("{}:/lines:ro", lines.display());

    let stub = Stub::start()?;
    let layer = Layer::default().program("cat", &std::fs::read(&busybox)?)?;
    let image = stub.serve("cat", &Image::new(&[layer.tar()?])?);
    world.isolazi(["pull", &image]).output()?.success()?;
    let theirs = podman.import(&busybox, "cat")?;
    let common = [
        "run",
        "-d",
        "--name",
        NAME,
        "--network",
        "none",
        "-v",
        &volume,
    ];

    let isolazi = |args: &[&str]| world.isolazi(args).into_command();
    let pairs = Pairs::measure(
        PAIRS,
        || {
            let run = isolazi(&[&common[..], &[&image, "/cat", "/lines"]].concat());
            written(run, isolazi(&["wait", NAME]), isolazi(&["rm", NAME]))
        },
        || {
            let driver = ["--log-driver", "k8s-file", &theirs, "/cat", "/lines"];
            let run = podman.command(&[&common[..], &driver].concat());
            let wait = podman.command(&["wait", "--interval", "10ms", NAME]);
            written(run, wait, podman.command(&["rm", NAME]))
        },
    )?;
    Ok(vec![Row::of_pairs(
        "log of 1 GiB in lines",
        "podman (k8s-file)",
        &pairs,
        1.0,
    )])
}

/// From the container's start to its end, when all that it wrote is in its log.
fn written(mut run: Command, mut wait: Command, mut remove: Command) -> Result<Duration> {
    let taken = time(&mut run)? + time(&mut wait)?;
    time(&mut remove)?;
    Ok(taken)
}

fn write_lines(file: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(file)?);
    for _ in 0..BYTES / LINE.len() {
        file.write_all(LINE.as_bytes())?;
    }
    Ok(file.flush()?)
}
