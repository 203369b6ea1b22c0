//! As much of systemd as one simple service needs: `systemctl`, and a process that keeps
//! a unit running. After systemctl(1), systemd.unit(5), systemd.service(5) and
//! systemd.exec(5); what is not known here is refused.
//!
//! ```text
//! /run/units/<unit>/keeper, main     process ids
//! /run/units/<unit>/stopping         says that the keeper shall not start it again
//! ```

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use isolazi_tests::stand_in::process_of;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program that is called in the guest.
pub(crate) const CONTROL: &str = "systemctl";
/// How the keeper of a unit is recognised.
pub(crate) const KEEPER: &str = "systemd-keeper";

const UNITS: &str = "/etc/systemd/system";
const STATES: &str = "/run/units";
/// RestartSec= and TimeoutStopSec= where they are not set.
const RESTART: Duration = Duration::from_millis(100);
const STOP: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(5);

/// `systemctl ARGUMENTS`.
pub(crate) fn control(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["daemon-reload"] => Ok(()),
        ["enable", unit] => Unit::read(unit).map(drop),
        ["restart", unit] => {
            Unit::read(unit)?;
            stop(unit)?;
            start(unit)
        }
        other => bail!("Unknown command verb or option: {}", other.join(" ")),
    }
}

/// What a unit's file says, as far as it has an effect here.
#[derive(Debug, Default)]
struct Unit {
    command: Vec<String>,
    runtime_directory: Option<PathBuf>,
    state_directory: Option<PathBuf>,
    restarts: bool,
}

impl Unit {
    fn read(name: &str) -> Result<Self> {
        ensure!(name.ends_with(".service"), "Unit {name} is no service");
        let path = Path::new(UNITS).join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("Unit {name} not found"))?;
        let mut unit = Self::default();
        let mut section = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let (key, value) = line.split_once('=').context("Missing '='")?;
            unit.set(section, key, value)
                .with_context(|| format!("{name}: {line}"))?;
        }
        ensure!(!unit.command.is_empty(), "{name} lacks ExecStart=");
        Ok(unit)
    }

    fn set(&mut self, section: &str, key: &str, value: &str) -> Result<()> {
        match (section, key) {
            ("[Unit]", "Description") | ("[Install]", "WantedBy") => {}
            ("[Service]", "ExecStart") => {
                self.command = value.split_whitespace().map(str::to_owned).collect();
                ensure!(value.starts_with('/'), "the path is not absolute");
            }
            ("[Service]", "RuntimeDirectory") => self.runtime_directory = Some(relative(value)?),
            ("[Service]", "StateDirectory") => self.state_directory = Some(relative(value)?),
            ("[Service]", "Restart") => self.restarts = value == "always",
            // What all units here have: the rest of the group is left alone.
            ("[Service]", "KillMode") => ensure!(value == "process", "not known here"),
            // More than a namespace of this machine's may have.
            ("[Service]", "LimitNOFILE") => drop(value.parse::<u64>()?),
            ("[Service]", "TasksMax") => ensure!(value == "infinity", "not known here"),
            _ => bail!("Unknown key in section {section}"),
        }
        Ok(())
    }
}

fn relative(value: &str) -> Result<PathBuf> {
    ensure!(!value.starts_with('/'), "the path is absolute");
    Ok(value.into())
}

fn state(unit: &str, what: &str) -> PathBuf {
    Path::new(STATES).join(unit).join(what)
}

fn process(unit: &str, what: &str) -> Option<Pid> {
    process_of(&state(unit, what))
}

fn start(unit: &str) -> Result<()> {
    fs::create_dir_all(state(unit, ""))?;
    let log = File::create(format!("/var/log/{unit}.log"))?;
    let keeper = Command::new(env::current_exe()?)
        .arg0(KEEPER)
        .arg(unit)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    fs::write(state(unit, "keeper"), keeper.id().to_string())?;
    Ok(())
}

fn stop(unit: &str) -> Result<()> {
    if process(unit, "keeper").is_none() {
        return Ok(());
    }
    File::create(state(unit, "stopping"))?;
    let deadline = Instant::now() + STOP;
    let mut signal = Signal::SIGTERM;
    while process(unit, "keeper").is_some() {
        if let Some(main) = process(unit, "main") {
            let _ = kill(main, signal);
        }
        if Instant::now() > deadline {
            signal = Signal::SIGKILL;
        }
        sleep(TICK);
    }
    let _ = fs::remove_file(state(unit, "stopping"));
    Ok(())
}

/// Ends every service, as a shutdown does.
pub(crate) fn stop_all() -> Result<()> {
    let units = fs::read_dir(STATES).into_iter().flatten().flatten();
    for unit in units {
        stop(&unit.file_name().to_string_lossy())?;
    }
    Ok(())
}

/// Runs a unit's command, again and again if it says so. The argument is its name.
pub(crate) fn keep(words: &[String]) -> Result<()> {
    let name = words.first().context("a unit")?;
    let unit = Unit::read(name)?;
    let (program, arguments) = unit.command.split_first().context("a command")?;
    let runtime = unit.runtime_directory.map(|it| Path::new("/run").join(it));
    let lasting = unit
        .state_directory
        .map(|it| Path::new("/var/lib").join(it));
    loop {
        for folder in [&runtime, &lasting].into_iter().flatten() {
            fs::create_dir_all(folder)?;
        }
        let mut main = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .spawn()?;
        fs::write(state(name, "main"), main.id().to_string())?;
        let ended = main.wait()?;
        println!("{name}: main process exited, {ended}");
        // RuntimeDirectoryPreserve= is not set.
        if let Some(folder) = &runtime {
            let _ = fs::remove_dir_all(folder);
        }
        if !unit.restarts || state(name, "stopping").exists() {
            return Ok(());
        }
        sleep(RESTART);
    }
}
