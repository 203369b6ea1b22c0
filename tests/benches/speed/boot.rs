//! A machine, from QEMU's start to the agent's first answer, beside a guest
//! that does nothing.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use isolazi_image_builder::cpio::Archive;
use isolazi_tests::surroundings::vm_lacks;
use isolazi_tests::{Mode, World, fixture};

use crate::Bench;
use crate::guest::{Guest, Network};
use crate::measure::Pairs;
use crate::table::Row;

const PAIRS: usize = 8;
/// What the small init says.
const MARK: &str = "up";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = vm_lacks() {
        bail!("{reason}");
    }
    let world = bench.world(Mode::Vm, "boot")?;
    let folder = bench.folder.path().join("boot/peer");
    start(&world)?;
    fs::create_dir_all(&folder)?;
    let mut root = Archive::default();
    let init = fixture::small_init(&folder)?;
    root.file("init", 0o755, &fs::read(init)?)?;
    let peer = Guest::new(&world, &folder, root, Network::Machines)?;
    stop(&world)?;
    let ours = || {
        let elapsed = start(&world)?;
        stop(&world).map(|()| elapsed)
    };
    let theirs = || Ok(peer.boot(MARK)?.booted_in);
    let pairs = Pairs::measure(PAIRS, ours, theirs)?;
    let what = "boot to the agent's first answer";
    Ok(vec![Row::of_pairs(
        what,
        "kernel and small init",
        &pairs,
        1.15,
    )])
}

/// Boots the machine; isolazi says how long it took.
fn start(world: &World) -> Result<Duration> {
    let output = world.bare(["vm", "start"]).output()?.success()?;
    let said = output.stdout_text();
    let mut words = said.split([' ', '(']);
    let millis = words.find_map(|word| word.parse().ok());
    Ok(Duration::from_millis(millis.context(said)?))
}

fn stop(world: &World) -> Result<()> {
    world.bare(["vm", "stop"]).output()?.success().map(drop)
}
