//! What the default profile costs each system call, beside libseccomp's program
//! for the same profile, as runc installs it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::Mode;
use isolazi_tests::fixture::{find, many_calls};
use isolazi_tests::surroundings::native_lacks;
use syscalls::Sysno;

use crate::Bench;
use crate::measure::Pairs;
use crate::runc::Bundle;
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
    let image = pulled(&world, &program, "true")?;
    let mut bundle = Bundle::new(&folder, &program, &world)?;
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
                    bundle.set_command(&words)?;
                    told(&mut bundle.run())
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
