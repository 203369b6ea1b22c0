//! Bringing the machine up, from its files to the agent's first answer, or
//! taking over one that is up.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use isolazi_protocol::Request;
use isolazi_protocol::appliance::{DATA_TEMPLATE, INITRAMFS, VIRTIOFS_HELPER};
use tokio::process::Child;

use super::accel::Accelerator;
use super::command::{Disk, QemuConfig};
use super::console::Console;
use super::handed::Handed;
use super::hypervisor::Hypervisor;
use super::layout::Layout;
use super::process::{Identity, Process};
use super::record::{Record, host_boot};
use super::shares::Shares;
use super::user::User;
use super::vsock::{self, Vsock};
use super::wire::Ready;
use super::{ask_agent, disk, initrd};
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::find_program;
use crate::machine::{Backend, MachineError};
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
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 512..=1536;

/// A machine that is up.
pub(super) struct Booted {
    processes: Option<Processes>,
    pub(super) pid: u32,
    pub(super) accelerator: Accelerator,
    pub(super) shares: Rc<tokio::sync::Mutex<Shares>>,
}

/// What a machine cannot go on without.
pub(super) struct Processes {
    pub(super) qemu: Process,
    pub(super) vsock: Option<Process>,
}

impl Booted {
    fn new(processes: Processes, shares: Shares, record: &Record) -> Self {
        Self {
            processes: Some(processes),
            pid: record.qemu.pid,
            accelerator: record.accelerator,
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
pub(super) async fn adopt(paths: &Paths, layout: &Layout) -> Option<(Booted, Ready)> {
    let record = Record::read(&layout.record())?;
    match adopt_recorded(paths, layout, &record).await {
        Ok(adopted) => Some(adopted),
        Err(reason) => {
            let reason = format!("{:#}", anyhow::Error::from(reason));
            crate::output::failure(&format!("cannot take over the machine: {reason}"));
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
    paths: &Paths,
    layout: &Layout,
    record: &Record,
) -> Result<(Booted, Ready), MachineError> {
    let gone = |what: &str| MachineError::Failed(format!("its {what} is gone"));
    let virtiofsd = Appliance::open(&appliance::folder(paths))?.helper(VIRTIOFS_HELPER)?;
    let ready = record.ready.clone().ok_or_else(|| gone("supervisor"))?;
    if !record.qemu.is_alive() {
        return Err(gone("hypervisor"));
    }
    let answered = tokio::time::timeout(ADOPTION_PATIENCE, answers(&ready)).await;
    if answered != Ok(true) {
        return Err(MachineError::Failed("its agent does not answer".to_owned()));
    }
    let log = layout.console_log();
    let log = File::options()
        .append(true)
        .create(true)
        .open(&log)
        .map_err(MachineError::io("write", &log))?;
    Console::follow(layout.helper_socket("console"), log);
    let processes = Processes {
        qemu: Process::adopt(record.qemu).ok_or_else(|| gone("hypervisor"))?,
        vsock: record.vsock.and_then(Process::adopt),
    };
    let shares = Shares::adopt(virtiofsd, layout.clone(), record.clone());
    Ok((Booted::new(processes, shares, record), ready))
}

/// Boots the machine and waits for its agent. An appliance that turns out to be
/// damaged is unpacked again, where this program brings it along.
pub(super) async fn boot(paths: &Paths, layout: &Layout) -> Result<(Booted, Ready), MachineError> {
    match boot_installed(paths, layout).await {
        Err(MachineError::BadAppliance { .. }) if appliance::restore(paths)? => {
            boot_installed(paths, layout).await
        }
        result => result,
    }
}

async fn boot_installed(paths: &Paths, layout: &Layout) -> Result<(Booted, Ready), MachineError> {
    let appliance = Appliance::open(&appliance::folder(paths))?;
    let qemu =
        find_program(&Backend::Qemu.program()).ok_or(MachineError::NoHypervisor(Backend::Qemu))?;
    let virtiofsd = appliance.helper(VIRTIOFS_HELPER)?;
    let token = prepare_files(&appliance, layout)?;
    let user = User::of_machine(layout.folder());
    let random = u32::from_ne_bytes(random()?);
    let Vsock {
        device,
        door,
        helper,
    } = Vsock::open(layout, user.as_ref(), random).await?;
    let (kernel, memory) = (appliance.kernel()?, layout.probe_result());
    let hypervisor = Hypervisor::choose(qemu, kernel, user.as_ref(), &memory).await;
    let config = configure(&hypervisor, layout, device)?;

    let started = Instant::now();
    let mut child = hypervisor.start(config, &layout.initrd())?;
    let mut record = record(&child, helper.as_ref(), hypervisor.accelerator)?;
    record.write(&layout.record())?;
    let log = layout.console_log();
    let log = File::create(&log).map_err(MachineError::io("write", &log))?;
    let console = Console::follow(layout.helper_socket("console"), log);
    let mut ready = Ready {
        door,
        token,
        boot_ms: 0,
    };
    wait_for_agent(&mut child, &ready, &console).await?;
    ready.boot_ms = started.elapsed().as_millis() as u64;
    record.ready = Some(ready.clone());
    record.write(&layout.record())?;
    // Its content is in the guest's memory now.
    let _ = std::fs::remove_file(layout.initrd());
    let shares = Shares::adopt(virtiofsd, layout.clone(), record.clone());
    let processes = Processes {
        qemu: child.into(),
        vsock: helper,
    };
    Ok((Booted::new(processes, shares, &record), ready))
}

fn configure(
    hypervisor: &Hypervisor,
    layout: &Layout,
    vsock: vsock::Device,
) -> Result<QemuConfig, MachineError> {
    Ok(QemuConfig {
        name: layout.folder().to_owned(),
        arch: hypervisor.arch,
        accelerator: hypervisor.accelerator,
        kernel: hypervisor.kernel()?,
        initrd: hypervisor.file(&layout.initrd())?,
        disk: Disk {
            to_read: Handed::to_read(&layout.disk(), None)?,
            to_write: Handed::to_write(&layout.disk())?,
        },
        vsock,
        qmp: Handed::listening(&layout.helper_socket("qmp"))?,
        console: Handed::listening(&layout.helper_socket("console"))?,
        cpus: hypervisor.cpus,
        memory_mib: memory_mib(),
    })
}

fn record(
    qemu: &Child,
    vsock: Option<&Process>,
    accelerator: Accelerator,
) -> Result<Record, MachineError> {
    let ended = || {
        MachineError::Failed(
            "QEMU ended as soon as it was started; see the machine's supervisor.log".to_owned(),
        )
    };
    Ok(Record {
        host_boot: host_boot(),
        qemu: qemu.id().and_then(Identity::of).ok_or_else(ended)?,
        vsock: vsock.and_then(Process::identity),
        accelerator,
        ready: None,
        used_slots: 0,
        shares: Vec::new(),
    })
}

/// The disk, where there is none yet, and the initramfs; returns the token in it.
fn prepare_files(appliance: &Appliance, layout: &Layout) -> Result<[u8; 32], MachineError> {
    let disk = layout.disk();
    if !disk.exists() {
        let template = appliance.verified(DATA_TEMPLATE)?;
        disk::ensure(&disk, || File::open(&template)).map_err(MachineError::io("create", &disk))?;
    }
    let token = random()?;
    let archive = appliance.verified(INITRAMFS)?;
    let target = layout.initrd();
    initrd::write(&target, &archive, &token).map_err(MachineError::io("write", &target))?;
    Ok(token)
}

fn random<const COUNT: usize>() -> Result<[u8; COUNT], MachineError> {
    let mut bytes = [0; COUNT];
    let source = Path::new("/dev/urandom");
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(MachineError::io("read", source))?;
    Ok(bytes)
}

/// A quarter of the host's memory, within reason. Only what the guest touches
/// is taken.
fn memory_mib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    (kib.unwrap_or(0) / 1024 / 4).clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end())
}

async fn wait_for_agent(
    qemu: &mut Child,
    ready: &Ready,
    console: &Console,
) -> Result<(), MachineError> {
    let answered = async {
        let _ = tokio::time::timeout(UNHEARD, console.ready.notified()).await;
        while !answers(ready).await {
            tokio::time::sleep(RETRY).await;
        }
    };
    let failure = tokio::select! {
        () = answered => return Ok(()),
        status = qemu.wait() => {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            format!("QEMU ended while the machine booted ({status})")
        }
        () = tokio::time::sleep(BOOT_PATIENCE) => {
            format!("the machine's agent did not answer within {} seconds", BOOT_PATIENCE.as_secs())
        }
    };
    Err(MachineError::Failed(format!(
        "{failure}; the console's last words: {}",
        console.tail()
    )))
}

async fn answers(ready: &Ready) -> bool {
    ask_agent(ready, &Request::Ping).await.is_ok()
}
