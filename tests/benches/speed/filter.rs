//! What the default profile costs each system call, beside libseccomp's program
//! for the same profile, as runc installs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::fixture::{find, many_calls};
use isolazi_tests::surroundings::native_lacks;
use isolazi_tests::{Invocation, Mode};
use serde_json::{Value, json};
use syscalls::Sysno;

use crate::Bench;
use crate::measure::Pairs;
use crate::start::pulled;
use crate::table::Row;

const PAIRS: usize = 15;

/// The kernel need not ask the program about the one; about the other it has
/// to, as the answer depends on an argument.
const CALLS: [(&str, Sysno, i64); 2] = [
    ("a million getpid, filtered", Sysno::getpid, 0),
    (
        "a million personality, filtered",
        Sysno::personality,
        0xffff_ffff,
    ),
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if let Some(reason) = native_lacks() {
        bail!("{reason}");
    }
    ensure!(find("runc").is_some(), "runc is not installed");
    let folder = bench.folder.path().join("filter");
    fs::create_dir_all(&folder)?;
    let program = many_calls(&folder)?;
    let world = bench.world(Mode::Native, "filter/native")?;
    let image = pulled(&world, &program)?;
    let shown = world.isolazi(["seccomp", "show", "default"]).output()?;
    let bundle = bundle(&folder, &program, &shown.success()?.json()?)?;
    let mut number = 0;
    CALLS
        .iter()
        .map(|(what, call, argument)| {
            let words = [
                "/true".to_owned(),
                call.id().to_string(),
                argument.to_string(),
            ];
            let pairs = Pairs::measure(
                PAIRS,
                || {
                    let run = world.isolazi(["run", "--rm", "--network", "none", &image]);
                    told(&mut run.args(&words).into_command())
                },
                || {
                    configure(&bundle, &words)?;
                    number += 1;
                    let mut runc = Command::new("runc");
                    runc.arg("--root").arg(folder.join("runc")).arg("run");
                    runc.arg("--bundle").arg(&bundle);
                    told(runc.arg(format!("filter-{number}")))
                },
            )?;
            Ok(Row::of_pairs(what, "libseccomp, by runc", &pairs, 1.0))
        })
        .collect()
}

/// What the program says that it took.
fn told(command: &mut Command) -> Result<Duration> {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    let nanos = text.trim().parse();
    Ok(Duration::from_nanos(
        nanos.with_context(|| format!("{command:?} said {text:?}"))?,
    ))
}

/// runc's own configuration, with this profile.
fn bundle(folder: &Path, program: &Path, profile: &Value) -> Result<PathBuf> {
    let bundle = folder.join("bundle");
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root)?;
    fs::copy(program, root.join("true"))?;
    fs::set_permissions(root.join("true"), fs::Permissions::from_mode(0o755))?;
    Invocation::new("runc", Duration::from_secs(30))
        .args(["spec"])
        .current_dir(&bundle)
        .output()?
        .success()?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["linux"]["seccomp"] = profile.clone();
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("rlimits");
    }
    fs::write(&file, config.to_string())?;
    Ok(bundle)
}

fn configure(bundle: &Path, words: &[String]) -> Result<()> {
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["args"] = json!(words);
    Ok(fs::write(&file, config.to_string())?)
}
