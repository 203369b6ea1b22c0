//! Instances on disk, and what limactl does to them.

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
use serde_json::{Value, json};

use crate::host_agent;
use crate::template::Template;

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// All of them.
pub(crate) struct Store(PathBuf);

/// One of them.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

impl Store {
    pub(crate) fn open() -> Result<Self> {
        // The real one's default is ~/.lima, which tests leave alone.
        let home = env::var_os("LIMA_HOME").context("LIMA_HOME is not set")?;
        fs::create_dir_all(&home)?;
        Ok(Self(home.into()))
    }

    pub(crate) fn all(&self) -> Result<Vec<Instance>> {
        let names = fs::read_dir(&self.0)?.flatten().map(|it| it.file_name());
        let found = names.filter_map(|name| self.find(&name.to_string_lossy()).ok());
        let mut all: Vec<_> = found.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Instance> {
        let folder = self.0.join(name);
        ensure!(
            folder.join("lima.yaml").is_file(),
            "instance {name:?} does not exist"
        );
        Ok(Instance {
            name: name.to_owned(),
            folder,
        })
    }

    pub(crate) fn create(&self, name: &str, template: &Path) -> Result<Instance> {
        ensure!(self.find(name).is_err(), "instance {name:?} already exists");
        Template::read(template)?;
        let folder = self.0.join(name);
        fs::create_dir_all(folder.join("disk"))?;
        fs::copy(template, folder.join("lima.yaml"))?;
        self.find(name)
    }
}

impl Instance {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn template(&self) -> Result<Template> {
        Template::read(&self.file("lima.yaml"))
    }

    /// The process that keeps it running, if there is one.
    pub(crate) fn host_agent(&self) -> Option<Pid> {
        process_of(&self.file("ha.pid"))
    }

    /// Comes back when the guest has booted and is provisioned.
    pub(crate) fn start(&self) -> Result<()> {
        // Read here, too, so that mistakes in it are told.
        self.template()?;
        let log = |name: &str| File::create(self.file(name));
        let mut host_agent = Command::new(env::current_exe()?)
            .arg0(host_agent::ROLE)
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log("ha.stdout.log")?)
            .stderr(log("ha.stderr.log")?)
            .process_group(0)
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let events = fs::read_to_string(self.file("ha.stdout.log"))?;
            if events.contains(host_agent::RUNNING) {
                return Ok(());
            }
            if let Some(ended) = host_agent.try_wait()? {
                let said = fs::read_to_string(self.file("ha.stderr.log"))?;
                bail!("the host agent has ended ({ended}): {}", said.trim());
            }
            sleep(TICK);
        }
        bail!("the instance does not boot")
    }

    pub(crate) fn stop(&self) -> Result<()> {
        let Some(host_agent) = self.host_agent() else {
            bail!("expected status \"Running\", got \"Stopped\" (maybe use `limactl stop -f`?)");
        };
        kill(host_agent, Signal::SIGINT)?;
        self.wait_until_it_ended()
    }

    pub(crate) fn stop_forcibly(&self) -> Result<()> {
        if let Some(host_agent) = self.host_agent() {
            // The guest goes with it.
            kill(host_agent, Signal::SIGKILL)?;
            self.wait_until_it_ended()?;
        }
        let _ = fs::remove_file(self.file("ha.pid"));
        Ok(())
    }

    fn wait_until_it_ended(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.host_agent().is_some() {
            ensure!(Instant::now() < deadline, "the instance does not stop");
            sleep(TICK);
        }
        Ok(())
    }

    pub(crate) fn delete(&self) -> Result<()> {
        self.stop_forcibly()?;
        // What the guest had mounted is going away.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = fs::remove_dir_all(&self.folder) {
            ensure!(Instant::now() < deadline, "cannot delete: {error}");
            sleep(TICK);
        }
        Ok(())
    }

    /// As `limactl list --format json` has it (`pkg/limatype/lima_instance.go`).
    pub(crate) fn described(&self) -> Result<Value> {
        let template = self.template()?;
        let host_agent = self.host_agent();
        Ok(json!({
            "name": self.name,
            "hostname": format!("lima-{}", self.name),
            "status": if host_agent.is_some() { "Running" } else { "Stopped" },
            "dir": self.folder,
            "vmType": "vz",
            "arch": env::consts::ARCH,
            "cpus": template.cpus,
            "memory": template.memory_bytes(),
            "disk": template.disk_bytes(),
            "hostAgentPID": host_agent.map_or(0, Pid::as_raw),
            "driverPID": host_agent.map_or(0, Pid::as_raw),
            "protected": false,
        }))
    }
}
