//! Bringing the machine up, from its files to the agent's first answer, or
//! taking over one that is up.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use isolazi_protocol::appliance::{DATA_TEMPLATE, INITRAMFS};
use isolazi_protocol::{BootConfig, GUEST_HOSTNAME, GuestNetwork, Request, Token};

use super::console::Console;
use super::hypervisor::{Hypervisor, Shares, Started};
use super::layout::Layout;
use super::process::Process;
use super::process::host_boot;
use super::record::Record;
use super::wire::Ready;
use super::{ask_agent, disk, initrd};
use crate::config::{Config, MachineConfig};
use crate::machine::appliance::{self, Appliance};
use crate::machine::{Backend, MachineError, MachineSize};
use crate::paths::Paths;

/// A guest that is translated on a busy machine takes seconds; one that needs
/// longer than this will not come.
const BOOT_PATIENCE: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_millis(5);
/// Where the guest's word that its agent listens was not heard, the agent is
/// asked after this time.
const UNHEARD: Duration = Duration::from_secs(1);
/// An agent of a machine that is up answers within this time.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(10);

/// A machine that is up.
pub(super) struct Booted {
    processes: Option<Processes>,
    /// Of the hypervisor.
    pub(super) pid: u32,
    pub(super) accelerator: String,
    pub(super) shares: Rc<tokio::sync::Mutex<Box<dyn Shares>>>,
}

/// What a machine cannot go on without.
pub(super) struct Processes {
    pub(super) hypervisor: Process,
    pub(super) helper: Option<Process>,
}

impl Booted {
    fn new(processes: Processes, shares: Box<dyn Shares>, record: &Record) -> Self {
        Self {
            processes: Some(processes),
            pid: record.hypervisor.pid,
            accelerator: record.accelerator.clone(),
            shares: Rc::new(tokio::sync::Mutex::new(shares)),
        }
    }

    /// Its processes, once.
    pub(super) fn take_processes(&mut self) -> Option<Processes> {
        self.processes.take()
    }

    pub(super) fn shared_folders(&self) -> Vec<PathBuf> {
        self.shares
            .try_lock()
            .map(|shares| shares.folders())
            .unwrap_or_default()
    }
}

/// Takes over the machine that a supervisor which was killed has left. One that
/// does not answer any more is ended, so that another can be booted.
pub(super) async fn adopt(
    hypervisor: &dyn Hypervisor,
    paths: &Paths,
    layout: &Layout,
) -> Option<(Booted, Ready)> {
    let record = Record::read(&layout.record())?;
    match adopt_recorded(hypervisor, paths, layout, &record).await {
        Ok(adopted) => Some(adopted),
        Err(reason) => {
            let reason = format!("{:#}", anyhow::Error::from(reason));
            crate::output::failure(&format!("cannot take over the machine: {reason}"));
            hypervisor.cut_power(layout).await;
            for remains in record.processes() {
                if let Some(mut remains) = Process::adopt(remains) {
                    remains.kill().await;
                }
            }
            None
        }
    }
}

async fn adopt_recorded(
    hypervisor: &dyn Hypervisor,
    paths: &Paths,
    layout: &Layout,
    record: &Record,
) -> Result<(Booted, Ready), MachineError> {
    let gone = |what: &str| MachineError::Failed(format!("its {what} is gone"));
    let shares = hypervisor.shares(paths, layout, record.clone())?;
    let ready = record.ready.clone().ok_or_else(|| gone("supervisor"))?;
    if !record.hypervisor.is_alive() {
        return Err(gone("hypervisor"));
    }
    let answered = tokio::time::timeout(ADOPTION_PATIENCE, answers(&ready)).await;
    if answered != Ok(true) {
        return Err(MachineError::Failed("its agent does not answer".to_owned()));
    }
    hypervisor.follow_console(layout)?;
    let processes = Processes {
        hypervisor: Process::adopt(record.hypervisor).ok_or_else(|| gone("hypervisor"))?,
        helper: record.helper.and_then(Process::adopt),
    };
    Ok((Booted::new(processes, shares, record), ready))
}

/// Boots the machine and waits for its agent. An appliance that turns out to be
/// damaged is unpacked again, where this program brings it along.
pub(super) async fn boot(
    hypervisor: &dyn Hypervisor,
    paths: &Paths,
    layout: &Layout,
) -> Result<(Booted, Ready), MachineError> {
    match boot_installed(hypervisor, paths, layout).await {
        Err(MachineError::BadAppliance { .. }) if appliance::restore(paths)? => {
            boot_installed(hypervisor, paths, layout).await
        }
        result => result,
    }
}

async fn boot_installed(
    hypervisor: &dyn Hypervisor,
    paths: &Paths,
    layout: &Layout,
) -> Result<(Booted, Ready), MachineError> {
    let started = hypervisor.start(paths, layout).await?;
    let booted = await_boot(hypervisor, paths, layout, started).await;
    if booted.is_err() {
        hypervisor.cut_power(layout).await;
    }
    booted
}

async fn await_boot(
    hypervisor: &dyn Hypervisor,
    paths: &Paths,
    layout: &Layout,
    started: Started,
) -> Result<(Booted, Ready), MachineError> {
    let mut record = record(&started)?;
    record.write(&layout.record())?;
    let Started {
        mut process,
        helper,
        console,
        ..
    } = started;
    let mut ready = Ready {
        door: started.door,
        token: started.token,
        boot_ms: 0,
    };
    let waited = wait_for_agent(&mut process, &ready, &console).await;
    waited.map_err(|failure| {
        let log = layout.supervisor_log();
        MachineError::Failed(format!(
            "{failure}; the hypervisor's own: {}",
            log.display()
        ))
    })?;
    ready.boot_ms = started.since.elapsed().as_millis() as u64;
    record.ready = Some(ready.clone());
    record.write(&layout.record())?;
    // Its content is in the guest's memory now.
    let _ = std::fs::remove_file(layout.initrd());
    let shares = hypervisor.shares(paths, layout, record.clone())?;
    let processes = Processes {
        hypervisor: process,
        helper,
    };
    Ok((Booted::new(processes, shares, &record), ready))
}

fn record(started: &Started) -> Result<Record, MachineError> {
    let ended = || {
        MachineError::Failed(
            "the hypervisor ended as soon as it was started; see the machine's supervisor.log"
                .to_owned(),
        )
    };
    Ok(Record {
        host_boot: host_boot(),
        hypervisor: started.process.identity().ok_or_else(ended)?,
        helper: started.helper.as_ref().and_then(Process::identity),
        accelerator: started.accelerator.clone(),
        ready: None,
        used_slots: 0,
        shares: started.shares.clone(),
    })
}

/// The disk, which is made or grown where need be, and the initramfs; returns the token
/// in it.
pub(crate) fn prepare_files(
    appliance: &Appliance,
    layout: &Layout,
    size: MachineSize,
    network: GuestNetwork,
    rosetta: Option<&str>,
) -> Result<[u8; 32], MachineError> {
    let disk = layout.disk();
    let template = match disk.exists() {
        true => PathBuf::new(),
        false => appliance.verified(DATA_TEMPLATE)?,
    };
    let template = || File::open(&template);
    disk::ensure(&disk, size.disk_bytes(), template).map_err(MachineError::io("prepare", &disk))?;
    let token = random()?;
    let config = BootConfig {
        token: Token(token),
        hostname: GUEST_HOSTNAME.to_owned(),
        network,
        rosetta: rosetta.map(str::to_owned),
    };
    let archive = appliance.verified(INITRAMFS)?;
    let target = layout.initrd();
    initrd::write(&target, &archive, &config).map_err(MachineError::io("write", &target))?;
    Ok(token)
}

/// Bytes that nobody can guess.
pub(crate) fn random<const COUNT: usize>() -> Result<[u8; COUNT], MachineError> {
    let mut bytes = [0; COUNT];
    let source = Path::new("/dev/urandom");
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(MachineError::io("read", source))?;
    Ok(bytes)
}

/// What the user has set for the machine.
pub(crate) fn settings(paths: &Paths, backend: Backend) -> Result<MachineConfig, MachineError> {
    let config = Config::read(&paths.config()).map_err(MachineError::because)?;
    let has_rosetta = backend == Backend::Vfkit && std::env::consts::ARCH == "aarch64";
    if config.machine.rosetta && !has_rosetta {
        return Err(MachineError::Failed(format!(
            "rosetta is there with vfkit on Apple silicon only; take it out of {}",
            paths.config().display()
        )));
    }
    Ok(config.machine)
}

/// Its memory in MiB, on this host.
pub(crate) fn memory_mib(size: MachineSize) -> u64 {
    size.memory_mib(crate::sys::memory_bytes().unwrap_or(0))
}

/// Its processors: all of the host's, where nothing is said.
pub(crate) fn processors(size: MachineSize) -> usize {
    let host = || std::thread::available_parallelism().map_or(1, usize::from);
    size.cpus.unwrap_or_else(host)
}

async fn wait_for_agent(
    process: &mut Process,
    ready: &Ready,
    console: &Console,
) -> Result<(), String> {
    let answered = async {
        let _ = tokio::time::timeout(UNHEARD, console.ready.notified()).await;
        while !answers(ready).await {
            tokio::time::sleep(RETRY).await;
        }
    };
    let failure = tokio::select! {
        () = answered => return Ok(()),
        how = process.ended() => format!("the hypervisor ended while the machine booted ({how})"),
        () = tokio::time::sleep(BOOT_PATIENCE) => {
            format!("the machine's agent did not answer within {} seconds", BOOT_PATIENCE.as_secs())
        }
    };
    Err(format!(
        "{failure}; the console's last words: {}",
        console.tail()
    ))
}

async fn answers(ready: &Ready) -> bool {
    ask_agent(ready, &Request::Ping).await.is_ok()
}
