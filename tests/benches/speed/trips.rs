//! How often host and guest wait for each other until a container runs.

use anyhow::{Context, Result, bail};
use isolazi_tests::Mode;
use isolazi_tests::surroundings::vm_lacks;
use isolazi_tests::wiretap::Wiretap;

use crate::Bench;
use crate::table::Row;

/// What the image `hello` says first.
const MARK: &[u8] = b"Hello from isolazi";
const AIM: usize = 3;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = vm_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Vm, "trips")?;
    let run = || world.isolazi(["run", "--rm", "hello"]).output()?.success();
    // What is counted is a warm machine, which has the image.
    run()?;
    let trips = {
        let tap = Wiretap::on(&world.root().join("machine/run/vsock.sock"))?;
        run()?;
        tap.round_trips_until(MARK)
    };
    world.bare(["vm", "stop"]).output()?.success()?;
    let trips = trips.context("the container was not heard")?;
    Ok(vec![Row::of_count(
        "round trips until a container runs",
        trips,
        AIM,
    )])
}
