//! The program itself: its size, its start, and what it costs to have its appliance
//! unpacked when it is first needed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use isolazi_image_builder::{BundleOptions, Front, bundle};
use isolazi_tests::surroundings::vm_lacks;
use isolazi_tests::{Invocation, Mode};

use crate::Bench;
use crate::measure::{median, time};
use crate::table::Row;

const STARTS: usize = 100;
const START_AIM: usize = 5;
const FIRST_USES: usize = 5;
const FIRST_USE_AIM: usize = 500;
/// In KiB.
const SIZE_AIM: usize = 8 << 10;
const WHOLE_AIM: usize = 25 << 10;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let program = &bench.shared.program;
    let mut rows = vec![
        Row::of_memory("size of the program", kibibytes(program)?, None, SIZE_AIM),
        Row::of_time("isolazi version", version(bench)?, START_AIM),
    ];
    if let Some(reason) = vm_lacks() {
        bail!("{reason}");
    }
    let home = bench.folder.path().join("whole");
    fs::create_dir(&home)?;
    let whole = home.join("isolazi");
    let options = BundleOptions {
        front: Front::Program(program.clone()),
        appliance: Some(bench.shared.appliance.clone()),
        output: whole.clone(),
    };
    bundle(&options, &mut |_| ())?;
    rows.push(Row::of_memory(
        "size with the appliance",
        kibibytes(&whole)?,
        None,
        WHOLE_AIM,
    ));
    let added = first_use(&whole, &home)?;
    rows.push(Row::of_time("added by the first use", added, FIRST_USE_AIM));
    Ok(rows)
}

fn kibibytes(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path)?.len() as f64 / 1024.0)
}

fn version(bench: &Bench) -> Result<f64> {
    let world = bench.world(Mode::Native, "version")?;
    let once = || time(&mut world.bare(["version"]).into_command());
    once()?;
    let times = (0..STARTS).map(|_| Ok(once()?.as_secs_f64()));
    Ok(median(times.collect::<Result<Vec<_>>>()?.into_iter()))
}

/// How much longer a start of the machine takes where nothing is unpacked yet.
fn first_use(program: &Path, home: &Path) -> Result<f64> {
    let isolazi = |args: &[&str]| {
        Invocation::new(program, Duration::from_secs(120))
            .args(args)
            .env("HOME", home)
            .env_remove("ISOLAZI_APPLIANCE")
            .env_remove("ISOLAZI_HOME")
            .env_remove("XDG_DATA_HOME")
    };
    let boot = || -> Result<f64> {
        let took = time(&mut isolazi(&["vm", "start"]).into_command())?;
        isolazi(&["vm", "stop"]).output()?.success()?;
        Ok(took.as_secs_f64())
    };
    // The disk is made by the first start of all.
    boot()?;
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..FIRST_USES {
        fs::remove_dir_all(home.join(".local/share/isolazi/appliance"))?;
        first.push(boot()?);
        later.push(boot()?);
    }
    Ok(median(first.into_iter()) - median(later.into_iter()))
}
