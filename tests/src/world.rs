//! One mode of isolazi under test: where its data lies and how it is called.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{Invocation, eventually};
use crate::mode::Mode;
use crate::verbs;

/// What the worlds of one test run share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The program under test.
    pub program: PathBuf,
    /// `HOST:PORT` of the registry.
    pub registry: String,
    /// The appliance that machines boot.
    pub appliance: PathBuf,
    /// Programs that take the places of others.
    pub stand_ins: PathBuf,
}

/// isolazi in one mode, with a data root of its own.
#[derive(Debug)]
pub struct World {
    mode: Mode,
    folder: PathBuf,
    shared: Shared,
    names: AtomicU32,
}

impl World {
    /// A world whose data and temporary files lie below `folder`.
    pub fn new(mode: Mode, folder: PathBuf, shared: Shared) -> Self {
        Self {
            mode,
            folder,
            shared,
            names: AtomicU32::new(0),
        }
    }

    /// The same program and registry, with nothing pulled and no machine, in `folder`.
    pub fn fresh(&self, folder: &Path) -> Self {
        Self::new(self.mode, folder.to_owned(), self.shared.clone())
    }

    /// Which mode this is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether containers run in a virtual machine.
    pub fn is_vm(&self) -> bool {
        !self.mode.is_native()
    }

    /// Whether they run on the appliance's kernel: a stand-in may have this machine's.
    pub fn has_appliances_kernel(&self) -> bool {
        matches!(self.mode, Mode::Vm | Mode::Vfkit)
    }

    /// What the worlds share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// isolazi's data root.
    pub fn root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A temporary folder that vanishes with the value.
    pub fn temp(&self) -> Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new()
            .prefix("tmp-")
            .tempdir_in(&self.folder);
        folder.context("cannot make a temporary folder")
    }

    /// `isolazi ARGS` in this mode.
    pub fn isolazi<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Invocation {
        let mode = self.is_vm().then(|| OsString::from("--vm"));
        let args = args.into_iter().map(|it| it.as_ref().to_owned());
        self.bare(mode.into_iter().chain(args))
    }

    /// `isolazi ARGS` with the data root, and without choosing a mode.
    pub fn bare<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Invocation {
        let args: Vec<OsString> = args.into_iter().map(|it| it.as_ref().to_owned()).collect();
        verbs::note(self.mode, args.iter().map(OsString::as_os_str));
        let timeout = self.patience(30);
        let command = Invocation::new(&self.shared.program, timeout)
            .env("ISOLAZI_HOME", self.root())
            .env("ISOLAZI_APPLIANCE", &self.shared.appliance)
            .env_remove("ISOLAZI_VM");
        let set = |command: Invocation, (key, value): (&str, OsString)| command.env(key, value);
        self.variables().into_iter().fold(command, set).args(args)
    }

    /// What the mode has in the environment of every command.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        self.mode.variables(&self.folder, &self.shared.stand_ins)
    }

    /// `wsl.exe ARGS`, by the stand-in.
    pub fn wsl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Invocation {
        let program = self.shared.stand_ins.join("wsl.exe");
        let command = Invocation::new(program, self.patience(30)).args(args);
        command.env("ISOLAZI_STAND_IN_WSL", self.home_of_stand_in())
    }

    /// Where the stand-in for `wsl.exe` keeps its distributions.
    pub fn home_of_stand_in(&self) -> PathBuf {
        self.folder.join("wsl")
    }

    /// `seconds` natively, and as much more as an emulated processor needs.
    pub fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(match self.mode {
            Mode::Native => seconds,
            Mode::Lima | Mode::Wsl2 => seconds * 2,
            Mode::Debian | Mode::Vm | Mode::Vfkit => seconds * 4,
        })
    }

    /// The reference of an image of the registry.
    pub fn image(&self, name: &str) -> String {
        let tag = if name.contains([':', '@']) { "" } else { ":1" };
        format!("{}/{name}{tag}", self.shared.registry)
    }

    /// The image that most cases run.
    pub fn busybox(&self) -> String {
        self.image("busybox")
    }

    /// `run --rm` of busybox with `command`.
    pub fn run<A: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = A>) -> Invocation {
        self.run_with(&[], command)
    }

    /// `run --rm OPTIONS` of busybox with `command`.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        options: &[&str],
        command: impl IntoIterator<Item = A>,
    ) -> Invocation {
        self.isolazi(["run", "--rm"])
            .args(options)
            .args([self.busybox()])
            .args(command)
    }

    /// `run --rm` of busybox with a shell script.
    pub fn sh(&self, script: &str) -> Invocation {
        self.run(["sh", "-c", script])
    }

    /// A name for a container, which is removed when the value is dropped.
    pub fn container(&self) -> Container<'_> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        Container {
            name: format!("{}-{}-{number}", self.mode, std::process::id()),
            world: self,
        }
    }

    /// Starts busybox with `command` in the background.
    pub fn start(&self, options: &[&str], command: &[&str]) -> Result<Container<'_>> {
        let container = self.container();
        self.isolazi(["run", "-d", "--name", &container.name])
            .args(options)
            .args([self.busybox()])
            .args(command)
            .output()?
            .success()?;
        Ok(container)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Those under QEMU are stopped by who has started them, and noticed if not.
        if self.mode == Mode::Wsl2 && self.root().join("machine").is_dir() {
            drop(self.bare(["vm", "stop"]).output());
        }
    }
}

/// A container's name; drops take the container away, whatever its state.
#[derive(Debug)]
pub struct Container<'a> {
    name: String,
    world: &'a World,
}

impl Container<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `isolazi exec OPTIONS NAME COMMAND`.
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Invocation {
        self.world
            .isolazi(["exec"])
            .args(options)
            .args([&self.name])
            .args(command)
    }

    /// Makes the empty file `path` in the container, for which its command waits. That
    /// command may have ended, and `touch` with it, before `touch` itself has.
    pub fn touch(&self, path: &str) -> Result<()> {
        let output = self.exec(&[], &["touch", path]).output()?;
        match output.status.code() {
            Some(137) => Ok(()),
            _ => output.success().map(drop),
        }
    }

    /// What `isolazi inspect` says.
    pub fn inspect(&self) -> Result<Value> {
        let output = self.world.isolazi(["inspect", &self.name]).output()?;
        let mut described = output.success()?.json()?;
        Ok(described[0].take())
    }

    /// Whether `ps -a` lists it.
    pub fn is_listed(&self) -> Result<bool> {
        let listed = self.world.isolazi(["ps", "-a"]).output()?.success()?;
        Ok(listed.stdout_text().contains(&self.name))
    }

    /// Waits until it has the status, such as `exited`, and gives what `inspect` says then.
    pub fn wait_status(&self, status: &str) -> Result<Value> {
        eventually(
            self.world.patience(20),
            &format!("{} is {status}", self.name),
            || {
                let described = self.inspect()?;
                Ok((described["State"]["Status"] == status).then_some(described))
            },
        )
    }

    /// Waits until its log contains `text`.
    pub fn wait_log(&self, text: &str) -> Result<()> {
        eventually(
            self.world.patience(20),
            &format!("{text:?} in the log"),
            || {
                let log = self
                    .world
                    .isolazi(["logs", &self.name])
                    .output()?
                    .success()?;
                Ok(log.stdout_text().contains(text).then_some(()))
            },
        )
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Most are gone by now, which is no error here.
        drop(self.world.isolazi(["rm", "-f", &self.name]).output());
    }
}
