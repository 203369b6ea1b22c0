//! Programs for another processor than this machine's, and guests that have one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::fixture::{self, find};
use isolazi_tests::handmade::Layer;
use isolazi_tests::surroundings::{foreign_appliance, is_ci};
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            what_only_another_processor_runs_is_refused_in_one_line,
        ],
        VmOnly: [
            with_an_interpreter_foreign_programs_run,
        ],
        VmAlone: [
            a_guest_of_another_processor_runs_its_containers,
        ],
    }
}

/// The processor that this machine does not have: its name, and images' for it.
fn other() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("x86_64", "amd64"),
        _ => ("aarch64", "arm64"),
    }
}

/// The program of the image `hello`, for the other processor, as an image.
fn foreign_hello(isolazi: impl Fn(&[&str]) -> Invocation, folder: &Path) -> Result<String> {
    let (arch, architecture) = other();
    let program = fixture::hello_for(arch, folder)?;
    let tar = Layer::default()
        .program("hello", &fs::read(program)?)?
        .tar()?;
    let name = format!("localhost/hello-{architecture}:1");
    let platform = format!("linux/{architecture}");
    isolazi(&["import", "--platform", &platform, "-", &name])
        .stdin(tar)
        .output()?
        .success()?;
    Ok(name)
}

fn what_only_another_processor_runs_is_refused_in_one_line(world: &World) -> Result<()> {
    let (_, architecture) = other();
    let folder = world.temp()?;
    let image = foreign_hello(|args| world.isolazi(args), folder.path())?;
    let platform = format!("linux/{architecture}");
    let help = match world.has_appliances_kernel() {
        true => format!("binfmt --install {architecture}"),
        false => "qemu-user-static".to_owned(),
    };
    if interpreter_is_registered(world, architecture)? {
        eprintln!("skipped: {architecture} programs run here");
        return Ok(());
    }

    let unasked = world.isolazi(["run", "--rm", &image, "/hello"]).output()?;
    unasked
        .code(126)?
        .stderr_has(&format!("it is for {platform}"))?
        .stderr_has(&help)?
        .stderr_has(&format!(
            "The requested image's platform ({platform}) does not match"
        ))?;
    let asked = world
        .isolazi(["run", "--rm", "--platform", &platform, &image, "/hello"])
        .output()?;
    let asked = asked.fails_with(126, &format!("it is for {platform}"))?;
    let lines = asked.stderr_text().trim_end().lines().count();
    ensure!(lines == 1, "{}", asked.stderr_text());
    Ok(())
}

/// Whether the kernel that containers have knows an interpreter for these programs.
fn interpreter_is_registered(world: &World, architecture: &str) -> Result<bool> {
    if world.is_vm() {
        return Ok(false);
    }
    let registered = Path::new("/proc/sys/fs/binfmt_misc");
    let name = match architecture {
        "arm64" => "qemu-aarch64",
        _ => "qemu-x86_64",
    };
    Ok(registered.join(name).exists())
}

/// Registers the interpreter in a guest of its own, as `tonistiigi/binfmt` does.
fn with_an_interpreter_foreign_programs_run(world: &World) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("skipped: written for interpreters on x86_64");
        return Ok(());
    }
    let Some(interpreter) = find("qemu-aarch64-static") else {
        ensure!(!is_ci(), "qemu-user-static is not installed");
        eprintln!("skipped: qemu-user-static is not installed");
        return Ok(());
    };
    let folder = world.temp()?;
    let world = &world.fresh(folder.path());
    fs::copy(interpreter, folder.path().join("qemu"))?;
    let image = foreign_hello(|args| world.isolazi(args), folder.path())?;
    // The magic and mask of qemu-binfmt-conf.sh for aarch64.
    let script = r"mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && cp /mnt/qemu /tmp/qemu && printf '%s' ':arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/tmp/qemu:F' >/proc/sys/fs/binfmt_misc/register";
    let shared = format!("{}:/mnt", folder.path().display());
    let registered = world.run_with(&["--privileged", "-v", &shared], ["sh", "-c", script]);
    let ran = registered.output().and_then(|output| {
        output.success()?;
        world
            .isolazi(["run", "--rm", "--platform", "linux/arm64", &image, "/hello"])
            .output()
    });
    world.bare(["vm", "stop"]).output()?;
    ran?.success()?.stdout_has("aarch64")?;
    Ok(())
}

/// Emulated, so everything takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

fn a_guest_of_another_processor_runs_its_containers(world: &World) -> Result<()> {
    let (arch, _) = other();
    let (qemu, appliance) = (format!("qemu-system-{arch}"), foreign_appliance(arch)?);
    if find(&qemu).is_none() || !appliance.is_dir() {
        eprintln!(
            "skipped: needs {qemu} and an appliance in {}",
            appliance.display()
        );
        return Ok(());
    }
    let folder = world.temp()?;
    let guest = Guest {
        world: world.fresh(folder.path()),
        appliance,
    };
    let image = foreign_hello(|args| guest.isolazi(args), folder.path())?;
    let said = guest
        .isolazi(&["run", "--rm", &image, "/hello"])
        .output()?
        .success()?
        .stderr_is("")?;
    said.stdout_has(arch)?
        .stdout_has("isolazi's virtual machine")?;
    let status = guest.isolazi(&["vm", "status"]).output()?.success()?;
    let status = status.stdout_has("tcg")?;
    eprint!("{}", status.stdout_text());
    // It is a machine like any other: names, detached containers, exec, a second start.
    let background = ["run", "-d", "--name", "far", &image, "/hello"];
    guest.isolazi(&background).output()?.success()?;
    guest
        .isolazi(&["wait", "far"])
        .output()?
        .success()?
        .stdout_is("0\n")?;
    let logs = guest.isolazi(&["logs", "far"]).output()?.success()?;
    logs.stdout_has(arch)?;
    guest.isolazi(&["rm", "far"]).output()?.success()?;
    Ok(())
}

/// A world whose machine has the other processor.
struct Guest {
    world: World,
    appliance: PathBuf,
}

impl Guest {
    fn isolazi(&self, args: &[&str]) -> Invocation {
        self.world
            .isolazi(args)
            .env("ISOLAZI_GUEST_ARCH", other().0)
            .env("ISOLAZI_APPLIANCE", &self.appliance)
            .timeout(PATIENCE)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let stopped = self.isolazi(&["vm", "stop"]).output();
        if let Err(error) = stopped.and_then(isolazi_tests::Output::success) {
            eprintln!("the machine does not stop: {error:#}");
        }
    }
}
