//! A machine, from QEMU's start to the agent's first answer, beside a guest
//! that does nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_image_builder::cpio::Archive;
use isolazi_tests::command::{eventually, tool};
use isolazi_tests::surroundings::{program, vm_lacks};
use isolazi_tests::{Mode, World, fixture};

use crate::Bench;
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
    fs::create_dir_all(&folder)?;
    start(&world)?;
    let command_line = command_line(&world)?;
    stop(&world)?;
    let peer = Peer::new(&command_line, &folder, &world)?;
    let ours = || {
        let elapsed = start(&world)?;
        stop(&world).map(|()| elapsed)
    };
    let pairs = Pairs::measure(PAIRS, ours, || peer.boot())?;
    let what = "boot to the agent's first answer";
    Ok(vec![Row::of_pairs(
        what,
        "kernel and small init",
        &pairs,
        1.25,
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

/// How QEMU was started.
fn command_line(world: &World) -> Result<Vec<String>> {
    let status = world.bare(["vm", "status"]).output()?.success()?;
    let said = status.stdout_text();
    let pid = said.split("process ").nth(1);
    let pid = pid.and_then(|rest| rest.split([',', ')']).next());
    let path = format!("/proc/{}/cmdline", pid.context(said.clone())?);
    let words = fs::read(&path).with_context(|| path.clone())?;
    let words = String::from_utf8(words)?;
    Ok(words
        .trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect())
}

/// The same QEMU, with an init that says one line and waits.
struct Peer {
    command_line: Vec<String>,
    helper: PathBuf,
    folder: PathBuf,
}

impl Peer {
    fn new(command_line: &[String], folder: &Path, world: &World) -> Result<Self> {
        let initrd = folder.join("initrd");
        let init = fixture::small_init(folder)?;
        let mut archive = Archive::default();
        archive.file("init", 0o755, &fs::read(init)?)?;
        fs::write(&initrd, archive.finish())?;
        // Everything else that QEMU is given is in the machine's folder.
        let machine = world.root().join("machine").display().to_string();
        // With its holes, which are most of it.
        let disk = world.root().join("machine/data.img");
        let copy = folder.join("data.img");
        let arguments = [
            "--sparse=always".as_ref(),
            disk.as_os_str(),
            copy.as_os_str(),
        ];
        tool("cp", arguments)?;
        fs::create_dir_all(folder.join("run"))?;
        let mut own = Vec::new();
        for word in command_line {
            let is_initrd = own.last().is_some_and(|last| last == "-initrd");
            own.push(match is_initrd {
                true => initrd.display().to_string(),
                // Read from here.
                false if word.starts_with("socket,id=console,") => "stdio,id=console".to_owned(),
                false => word.replace(&machine, &folder.display().to_string()),
            });
        }
        ensure!(
            own != command_line,
            "isolazi's QEMU has another command line"
        );
        Ok(Self {
            command_line: own,
            helper: program()?,
            folder: folder.to_owned(),
        })
    }

    fn boot(&self) -> Result<Duration> {
        let _helper = self.start_helper()?;
        let (program, arguments) = self.command_line.split_first().context("no command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let started = Instant::now();
        let mut qemu = Ended(command.spawn()?);
        let console = qemu.0.stdout.take().context("no console")?;
        for line in BufReader::new(console).lines() {
            if line?.trim() == MARK {
                return Ok(started.elapsed());
            }
        }
        bail!("the guest ended without a word")
    }

    /// The vsock device that QEMU expects.
    fn start_helper(&self) -> Result<Ended> {
        let socket = |name: &str| self.folder.join("run").join(name);
        for name in ["vsock-device.sock", "vsock.sock"] {
            drop(fs::remove_file(socket(name)));
        }
        let helper = Command::new(&self.helper)
            .arg0("isolazi-vsock")
            .arg(socket("vsock-device.sock"))
            .arg(socket("vsock.sock"))
            .stdout(Stdio::null())
            .spawn()?;
        eventually(Duration::from_secs(5), "the vsock device", || {
            Ok(socket("vsock-device.sock").exists().then_some(()))
        })?;
        Ok(Ended(helper))
    }
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
