//! This machine's processes, and what a test run may leave on it: nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

/// What is under way when everything is said to be done takes no longer.
const LAST_WORK: Duration = Duration::from_secs(5);

/// What isolazi could leave behind, as it was at one moment.
#[derive(Debug)]
pub struct Traces {
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    processes: Vec<String>,
}

impl Traces {
    /// Whatever on this machine has to do with the data root `root`, and all
    /// control groups of containers that have no process: those of others run.
    pub fn of(root: &Path) -> Self {
        Self {
            mounts: lines_about("/proc/self/mountinfo", root),
            cgroups: cgroups(),
            processes: processes(root),
        }
    }

    /// The same, once processes that are on their way out have gone: a shim still unplugs
    /// its container when everybody else has been told that it is removed.
    pub fn in_the_end(root: &Path) -> Self {
        let deadline = Instant::now() + LAST_WORK;
        loop {
            let traces = Self::of(root);
            if traces.processes.is_empty() || Instant::now() > deadline {
                return traces;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails with what there is.
    pub fn ensure_none(&self) -> Result<()> {
        ensure!(
            self.mounts.is_empty() && self.cgroups.is_empty() && self.processes.is_empty(),
            "left behind: {self:#?}"
        );
        Ok(())
    }

    /// Fails with mounts and processes. Groups may be those of others.
    pub fn ensure_nothing_open(&self) -> Result<()> {
        ensure!(
            self.mounts.is_empty() && self.processes.is_empty(),
            "left behind: {self:#?}"
        );
        Ok(())
    }

    /// Fails with what mentions `id`.
    pub fn ensure_none_of(&self, id: &str) -> Result<()> {
        let about = |text: &str| text.contains(id);
        let cgroups = self.cgroups.iter().map(|path| path.to_string_lossy());
        let found: Vec<String> = cgroups
            .map(String::from)
            .chain(self.mounts.iter().cloned())
            .chain(self.processes.iter().cloned())
            .filter(|text| about(text))
            .collect();
        ensure!(found.is_empty(), "left behind of {id}: {found:#?}");
        Ok(())
    }
}

fn lines_about(file: &str, root: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let root = root.to_string_lossy();
    let lines = text.lines().filter(|line| line.contains(&*root));
    lines.map(str::to_owned).collect()
}

/// All `isolazi/<id>` groups without a process, in every hierarchy, for longer
/// than it takes to fill or remove one.
fn cgroups() -> Vec<PathBuf> {
    let empty = empty_cgroups();
    if empty.is_empty() {
        return empty;
    }
    thread::sleep(Duration::from_secs(1));
    let still = empty_cgroups();
    empty
        .into_iter()
        .filter(|path| still.contains(path))
        .collect()
}

fn empty_cgroups() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = folders(&top).into_iter().chain([top]);
    let groups = hierarchies.flat_map(|place| folders(&place.join("isolazi")));
    let is_empty = |group: &PathBuf| {
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
    };
    groups.filter(is_empty).collect()
}

/// The process whose command line `is_it`, with that line's words.
pub fn process(is_it: impl Fn(&[String]) -> bool) -> Result<Option<(Pid, Vec<String>)>> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<String> = line.split('\0').map(str::to_owned).collect();
        if is_it(&words) {
            return Ok(Pid::from_raw(pid).map(|pid| (pid, words)));
        }
    }
    Ok(None)
}

/// The first word behind `name` in a process's status (proc_pid_status(5)).
pub fn status_field(process: impl fmt::Display, name: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.to_owned())
}

/// Who has started a process, or has it by now.
pub fn parent(process: impl fmt::Display) -> Result<Pid> {
    let parent = status_field(process, "PPid:")?.parse()?;
    Pid::from_raw(parent).context("no parent")
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Processes that name `root` in their command line or live in one of its folders.
fn processes(root: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for process in folders(Path::new("/proc")) {
        let name = process.file_name().unwrap_or_default().to_string_lossy();
        if !name.bytes().all(|b| b.is_ascii_digit()) || *name == *own {
            continue;
        }
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let open = folders_of(&process.join("fd"));
        let root = root.to_string_lossy();
        if command.contains(&*root) || open.iter().any(|path| path.contains(&*root)) {
            found.push(format!("{name}: {command}"));
        }
    }
    found
}

fn folders_of(descriptors: &Path) -> Vec<String> {
    let entries = fs::read_dir(descriptors).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

/// What a data root has when there is no container: names of whole things.
pub fn ensure_nothing_half_made(root: &Path) -> Result<()> {
    for (folder, expected) in [
        ("containers", &[".names"][..]),
        ("containers/.names", &[]),
        ("layers", &["sha256", ".lock", ".use"]),
        (
            "images",
            &["blobs", "manifests", "events.log", "events.log.1"],
        ),
        ("images/blobs", &["sha256", ".partial"]),
        ("images/blobs/.partial", &[]),
    ] {
        let is = names(&root.join(folder));
        // One lock for each of the first two digits of a digest at the most.
        let is_known = |name: &str| expected.contains(&name) || name.ends_with(".lock");
        let odd: Vec<_> = is.iter().filter(|name| !is_known(name)).collect();
        ensure!(odd.is_empty(), "in {folder} are {odd:?}");
    }
    for folder in ["layers/sha256", "images/blobs/sha256"] {
        let is = names(&root.join(folder));
        let odd: Vec<_> = is
            .iter()
            .filter(|name| name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()))
            .collect();
        ensure!(odd.is_empty(), "in {folder} are {odd:?}");
    }
    Ok(())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Loop devices that a file below `root` is attached to.
pub fn loop_devices(root: &Path) -> Vec<PathBuf> {
    let root = root.to_string_lossy();
    let backs = |device: &PathBuf| {
        let file = fs::read_to_string(device.join("loop/backing_file"));
        file.is_ok_and(|file| file.contains(&*root))
    };
    let devices = folders(Path::new("/sys/block")).into_iter();
    devices.filter(backs).collect()
}
