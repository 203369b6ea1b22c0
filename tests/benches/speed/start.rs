//! A container natively, from nothing to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use isolazi_tests::command::tool;
use isolazi_tests::fixture::{find, static_true};
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Invocation, Mode, World};
use serde_json::{Value, json};

use crate::Bench;
use crate::measure::{Pairs, time};
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
    let image = pulled(&world, &program)?;
    let bundle = bundle(&folder, &program)?;
    let mut number = 0;
    let pairs = Pairs::measure(
        PAIRS,
        || {
            let run = world.isolazi(["run", "--rm", "--network", "none", &image, "/true"]);
            time(&mut run.into_command())
        },
        || {
            number += 1;
            let mut runc = Command::new("runc");
            runc.arg("--root").arg(folder.join("runc")).arg("run");
            runc.arg("--bundle").arg(&bundle);
            time(runc.arg(format!("bench-{number}")))
        },
    )?;
    Ok(vec![Row::of_pairs(
        "run --rm of a static true",
        "runc run",
        &pairs,
        1.0,
    )])
}

/// Makes an image of `program` and pulls it.
pub(crate) fn pulled(world: &World, program: &Path) -> Result<String> {
    let stub = Stub::start()?;
    let layer = Layer::default().program("true", &fs::read(program)?)?;
    let image = stub.serve("bench", &Image::new(&[layer.tar()?])?);
    world.isolazi(["pull", &image]).output()?.success()?;
    Ok(image)
}

/// What runc wants: the same root, and its own configuration, but for limits
/// that it may not be allowed to raise.
fn bundle(folder: &Path, program: &Path) -> Result<std::path::PathBuf> {
    let bundle = folder.join("bundle");
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root)?;
    fs::copy(program, root.join("true"))?;
    fs::set_permissions(root.join("true"), fs::Permissions::from_mode(0o755))?;
    Invocation::new("runc", std::time::Duration::from_secs(30))
        .args(["spec"])
        .current_dir(&bundle)
        .output()?
        .success()?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/true"]);
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("rlimits");
    }
    fs::write(&file, config.to_string())?;
    // Warms the disk's cache of both.
    tool("sync", [""; 0])?;
    Ok(bundle)
}
