//! The programs that face a guest are nobody's where the caller is root.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::world::Shared;
use isolazi_tests::{Case, World};
use rustix::process::Pid;

use super::machine::process;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmOnly: [
            what_faces_the_guest_is_nobody,
            the_supervisor_gains_nothing_and_still_shares,
            nobody_owns_nothing_of_the_machines,
        ],
        VmAlone: [
            a_machine_of_a_private_folder_boots,
        ],
    }
}

const HYPERVISOR: &str = "qemu-system-x86_64";
const VSOCK: &str = "isolazi-vsock";

/// The lines of a process's status (proc_pid_status(5)).
fn status(pid: Pid) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(lines
        .map(|(key, value)| (key.to_owned(), words(value)))
        .collect())
}

/// The ids of a process with nobody's rights.
fn nobodys(pid: Pid) -> Result<(u32, BTreeMap<String, String>)> {
    let status = status(pid)?;
    let id: u32 = status["Uid"].split(' ').next().context("no id")?.parse()?;
    ensure!(id != 0, "it is root");
    let all = [id.to_string().as_str(); 4].join(" ");
    same("users", &status["Uid"], &all)?;
    same("groups", &status["Gid"], &all)?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        same(set, &status[set].as_str(), &"0000000000000000")?;
    }
    same("no_new_privs", &status["NoNewPrivs"].as_str(), &"1")?;
    Ok((id, status))
}

/// Why they may be root; `None` where they must not.
fn excuse(world: &World) -> Option<&'static str> {
    let is_root = rustix::process::geteuid().is_root();
    let found_out = fs::read_to_string(world.root().join("machine/accelerator"));
    let uses_kvm = found_out.is_ok_and(|it| it.starts_with("kvm"));
    let only_roots = fs::metadata("/dev/kvm").is_ok_and(|it| it.mode() & 0o066 == 0);
    match (is_root, uses_kvm && only_roots) {
        (false, _) => Some("the caller is not root, so they are the caller's"),
        (_, true) => Some("only root may use /dev/kvm, so QEMU is root's"),
        _ => None,
    }
}

/// It has rules of landlock's, which come with this.
fn the_supervisor_gains_nothing_and_still_shares(world: &World) -> Result<()> {
    world.run(["true"]).output()?.success()?;
    let root = world.root().display().to_string();
    let (supervisor, _) = process("isolazi-machine", &root)?.context("no supervisor")?;
    same(
        "no_new_privs",
        &status(supervisor)?["NoNewPrivs"].as_str(),
        &"1",
    )?;
    let folder = world.temp()?;
    let volume = format!("{}:/mnt", folder.path().display());
    let touch = world.run_with(&["-v", &volume], ["touch", "/mnt/made"]);
    touch.output()?.success()?;
    ensure!(folder.path().join("made").exists(), "nothing was made");
    Ok(())
}

fn what_faces_the_guest_is_nobody(world: &World) -> Result<()> {
    world.run(["true"]).output()?.success()?;
    if let Some(excuse) = excuse(world) {
        eprintln!("skipped: {excuse}");
        return Ok(());
    }
    let root = world.root().display().to_string();
    let (qemu, _) = process(HYPERVISOR, &root)?.context("no QEMU")?;
    let (id, status) = nobodys(qemu)?;
    same("filter", &status["Seccomp"].as_str(), &"2")?;
    // A device may take its group, nothing else does.
    let groups: Vec<_> = status["Groups"].split_whitespace().collect();
    ensure!(groups.len() <= 1, "{groups:?}");
    match process(VSOCK, &root)? {
        Some((vsock, _)) => {
            let (same_id, status) = nobodys(vsock)?;
            same("user", &same_id, &id)?;
            same("groups", &status["Groups"].as_str(), &"")?;
        }
        None => eprintln!("the helper of the vsock is not needed here"),
    }
    Ok(())
}

/// Everything below `folder`, and itself.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(below(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}

fn nobody_owns_nothing_of_the_machines(world: &World) -> Result<()> {
    world.run(["true"]).output()?.success()?;
    let caller = rustix::process::geteuid().as_raw();
    let folder = world.root().join("machine");
    let files = below(&folder)?;
    for path in &files {
        let Ok(found) = fs::symlink_metadata(path) else {
            // Another case has just started or ended something.
            continue;
        };
        same(&path.display().to_string(), &found.uid(), &caller)?;
        let is_open = found.file_type().is_socket() && found.mode() & 0o077 != 0;
        ensure!(!is_open, "{} is open to others", path.display());
    }
    for private in [&folder, &folder.join("run")] {
        same("mode", &(fs::metadata(private)?.mode() & 0o7777), &0o700)?;
    }
    same(
        "mode of the disk",
        &(fs::metadata(folder.join("data.img"))?.mode() & 0o7777),
        &0o600,
    )?;
    let sockets = files
        .iter()
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()));
    ensure!(sockets.count() >= 3, "few sockets: {files:?}");
    Ok(())
}

/// Program and appliance are the caller's alone, in a folder that nobody else can
/// enter, as below `/root`.
fn a_machine_of_a_private_folder_boots(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700))?;
    let program = folder.path().join("isolazi");
    fs::copy(&world.shared().program, &program)?;
    let appliance = super::vm::copy_of_appliance(world, folder.path())?;
    for path in below(&appliance)? {
        let mode = match path.is_dir() || path.ends_with("virtiofsd") {
            true => 0o700,
            false => 0o600,
        };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    let shared = Shared {
        program,
        appliance,
        ..world.shared().clone()
    };
    let other = World::new(world.mode(), folder.path().to_owned(), shared);
    let start = other.bare(["vm", "start"]);
    start.timeout(world.patience(60)).output()?.success()?;
    let root = other.root().display().to_string();
    let (qemu, _) = process(HYPERVISOR, &root)?.context("no QEMU")?;
    let checked = match excuse(&other) {
        None => nobodys(qemu).map(drop),
        Some(excuse) => {
            eprintln!("in part: {excuse}");
            Ok(())
        }
    };
    other.bare(["vm", "stop"]).output()?.success()?;
    checked
}
