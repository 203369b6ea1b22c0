//! What isolazi costs beside its peers: `cargo bench -p isolazi-tests [-- NAME…]`
//! measures and prints a table.
//!
//! Everything is measured as a user would see it, whole processes by the clock
//! on the wall. Each run of isolazi is followed or preceded by one of the peer,
//! so that both meet the same machine, and the ratio is the median of the
//! pairs' ratios. Nothing is asserted: a table is for people to judge.
//!
//! | name | isolazi | beside |
//! | --- | --- | --- |
//! | `program` | its size and start; the first use of an embedded appliance | |
//! | `start` | `run --rm --network none` of a static `true`, natively | `runc run` of the same root under the same filter |
//! | `boot` | QEMU's start to the agent's first answer | the same QEMU and kernel with an init that says one line |
//! | `trips` | round trips on the wire until a container runs | |
//! | `listing` | `ps` and `ps -a` with 200 containers, 100 of them running, natively | |
//! | `pull` | `pull` of two layers, 500 MB in all | `podman pull`, and `tar xzf` of the layers |
//! | `logs` | 1 GiB of lines from `run -d` to the end of `wait`, natively | `podman run -d --log-driver k8s-file` and `podman wait` |
//! | `filter` | a million system calls under the default profile, natively | under libseccomp's program for it |
//! | `bridge` | `run --rm` on the bridge of a static `true`, natively; the 100th container there | `podman run --rm`, `--network none`; the first |
//! | `ports` | 512 MiB through a published port to an echo and back, natively | by the container's address |
//! | `relay` | 16 MiB, first lines, and 20 connections in a row, to a published port of a container in a machine | QEMU's hostfwd to a guest that is the echo; slirp4netns to the same guest |
//! | `memory` | a shim's share of memory with 100 containers, natively | conmon's |

mod boot;
mod filter;
mod guest;
mod listing;
mod logs;
mod measure;
mod memory;
mod networks;
mod podman;
mod program;
mod pull;
mod relay;
mod runc;
mod start;
mod table;
mod trips;

use std::process::ExitCode;

use anyhow::{Context, Result};
use isolazi_tests::surroundings::{appliance, program};
use isolazi_tests::world::Shared;
use isolazi_tests::{Mode, World, network};

use table::Row;

/// What a bench may use.
struct Bench {
    /// Vanishes with everything in it.
    folder: tempfile::TempDir,
    shared: Shared,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("isolazi-bench-").tempdir();
        Ok(Self {
            folder: folder.context("cannot make a temporary folder")?,
            shared: Shared {
                program: program()?,
                registry: String::new(),
                appliance: appliance()?,
                stand_ins: std::path::PathBuf::new(),
            },
        })
    }

    /// isolazi with data of its own, below a folder called `name`.
    fn world(&self, mode: Mode, name: &str) -> Result<World> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(World::new(mode, folder, self.shared.clone()))
    }
}

type Measure = fn(&Bench) -> Result<Vec<Row>>;

const BENCHES: [(&str, Measure); 12] = [
    ("program", program::measure),
    ("start", start::measure),
    ("trips", trips::measure),
    ("boot", boot::measure),
    ("pull", pull::measure),
    ("listing", listing::measure),
    ("logs", logs::measure),
    ("memory", memory::measure),
    ("filter", filter::measure),
    ("bridge", networks::starts),
    ("ports", networks::ports),
    ("relay", relay::measure),
];

fn main() -> ExitCode {
    // cargo passes `--bench`, and whatever the user adds.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    match run(&wanted) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<ExitCode> {
    // Containers get a network natively, and the machine's is nobody's to change.
    network::leave_the_machines()?;
    let bench = Bench::new()?;
    let mut code = ExitCode::SUCCESS;
    println!("{}", table::heading());
    for (name, measure) in BENCHES {
        if !wanted.is_empty() && !wanted.iter().any(|it| it == name) {
            continue;
        }
        match measure(&bench) {
            Ok(rows) => rows.iter().for_each(|row| println!("{row}")),
            Err(error) => {
                println!("{name}: not measured: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
