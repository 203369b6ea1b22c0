//! One file as the whole installation: a program that brings its appliance along.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isolazi_image_builder::{BundleOptions, Front, bundle};
use isolazi_tests::fixture::find;
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmAlone: [
            one_file_in_an_empty_home_runs_a_container,
            a_damaged_file_says_so_and_unpacks_nothing,
        ],
    }
}

/// Said while the appliance is unpacked, once.
const UNPACKING: &str = "Unpacking";

/// A home folder with nothing in it but one program.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new(world: &World) -> Result<Self> {
        let folder = world.temp()?;
        let options = BundleOptions {
            front: Front::Program(world.shared().program.clone()),
            appliance: Some(world.shared().appliance.clone()),
            output: folder.path().join("bin/isolazi"),
        };
        bundle(&options, &mut |_| ())?;
        // What it could use instead is out of reach: cargo, for one.
        let path = folder.path().join("path");
        fs::create_dir(&path)?;
        let qemu = format!("qemu-system-{}", std::env::consts::ARCH);
        let qemu = find(&qemu).context("QEMU is not installed")?;
        std::os::unix::fs::symlink(&qemu, path.join(qemu.file_name().context("a name")?))?;
        Ok(Self { folder })
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("bin/isolazi")
    }

    fn isolazi(&self, args: &[&str]) -> Invocation {
        let home = self.folder.path();
        Invocation::new(self.program(), Duration::from_secs(180))
            .args(args)
            .env("HOME", home)
            .env("PATH", home.join("path"))
            .env_remove("ISOLAZI_HOME")
            .env_remove("ISOLAZI_APPLIANCE")
            .env_remove("XDG_DATA_HOME")
            .current_dir(home)
    }

    fn appliance(&self) -> PathBuf {
        self.folder
            .path()
            .join(".local/share/isolazi/appliance")
            .join(std::env::consts::ARCH)
    }

    fn kernel(&self) -> Result<PathBuf> {
        let manifest = fs::read(self.appliance().join("manifest.json"))?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
        let file = manifest["kernel"]["file"].as_str().context("a kernel")?;
        Ok(self.appliance().join(file))
    }

    fn stop(&self) -> Result<()> {
        self.isolazi(&["vm", "stop"]).output()?.success()?;
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn one_file_in_an_empty_home_runs_a_container(world: &World) -> Result<()> {
    let home = Home::new(world)?;
    let hello = || home.isolazi(&["run", "--vm", "--rm", "hello"]);

    let first = hello().output()?.success()?;
    first
        .stdout_has("isolazi's virtual machine")?
        .stderr_has(UNPACKING)?;
    let info = home.isolazi(&["vm", "info"]).output()?.success()?;
    info.stdout_has(&format!(
        "{}, from this program",
        home.appliance().display()
    ))?;
    let second = hello().output()?.success()?;
    second.stderr_is("")?;

    // What somebody has damaged is noticed at the next boot, and unpacked again.
    home.stop()?;
    flip_a_byte(&home.kernel()?)?;
    hello().output()?.success()?.stderr_is("")?;

    // Two at once, with nothing there, unpack it once and whole.
    home.stop()?;
    fs::remove_dir_all(home.appliance())?;
    let both = [hello().spawn()?, hello().spawn()?];
    for one in both {
        one.wait()?.success()?;
    }
    home.stop()?;

    // What was cut short is replaced; how long that takes is told.
    fs::File::options()
        .write(true)
        .open(home.kernel()?)?
        .set_len(1000)?;
    let started = Instant::now();
    let status = home.isolazi(&["vm", "start"]).output()?.success()?;
    status.stderr_has(UNPACKING)?;
    eprintln!("unpacked and booted in {:?}", started.elapsed());
    Ok(())
}

fn a_damaged_file_says_so_and_unpacks_nothing(world: &World) -> Result<()> {
    let home = Home::new(world)?;
    // Behind the program itself, and before the index at the end.
    let program = fs::metadata(&world.shared().program)?.len();
    let mut bytes = fs::read(home.program())?;
    bytes[program as usize + 5000] ^= 1;
    fs::write(home.program(), bytes)?;
    let refused = home.isolazi(&["run", "--vm", "hello"]).output()?;
    refused.fails_with(125, "the appliance in this program is damaged")?;
    ensure!(!home.appliance().exists(), "something was unpacked");
    // What needs no machine works all the same.
    home.isolazi(&["version"]).output()?.success()?;
    Ok(())
}

fn flip_a_byte(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes)?;
    Ok(())
}
