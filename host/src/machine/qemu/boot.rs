//! Bringing the machine up, from its files to the agent's first answer.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use isolazi_protocol::Request;
use isolazi_protocol::appliance::{DATA_TEMPLATE, INITRAMFS, VIRTIOFS_HELPER};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::accel::{self, Accelerator};
use super::command::{QemuConfig, arguments};
use super::layout::Layout;
use super::shares::Shares;
use super::vsock::Vsock;
use super::wire::Ready;
use super::{dial_guest, disk, helper, initrd};
use crate::connection::Conversation;
use crate::machine::MachineError;
use crate::machine::appliance::{self, Appliance};
use crate::paths::Paths;

/// A guest that is translated on a busy machine takes seconds; one that needs
/// longer than this will not come.
const BOOT_PATIENCE: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_millis(5);
/// The agent prints this when it listens.
const READY_LINE: &str = "isolazi: ready";
/// So much of the console is kept for an error message.
const CONSOLE_TAIL: usize = 16 << 10;
/// So much of it goes to the log file.
const CONSOLE_LOG: usize = 1 << 20;
/// So many of its lines are shown.
const SHOWN_LINES: usize = 5;
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 512..=1536;

/// A machine that is up, and what has to live as long.
pub(super) struct Booted {
    qemu: Option<Child>,
    pub(super) pid: u32,
    pub(super) accelerator: Accelerator,
    pub(super) shares: Rc<tokio::sync::Mutex<Shares>>,
    vsock: Option<Vsock>,
}

impl Booted {
    /// QEMU's process and what it cannot go on without, once.
    pub(super) fn take_qemu(&mut self) -> Option<(Child, Vsock)> {
        self.qemu.take().zip(self.vsock.take())
    }

    pub(super) fn shared_folders(&self) -> Vec<PathBuf> {
        self.shares
            .try_lock()
            .map(|shares| shares.folders())
            .unwrap_or_default()
    }
}

/// Boots the machine and waits for its agent.
pub(super) async fn boot(paths: &Paths, layout: &Layout) -> Result<(Booted, Ready), MachineError> {
    let appliance = Appliance::open(&appliance::folder(paths))?;
    let program = super::program();
    let qemu = helper::find(&program).ok_or(MachineError::NoHypervisor(program))?;
    let version = accel::version(&qemu);
    let kernel = appliance.kernel()?;
    let accelerator = accel::choose(&qemu, &kernel, &layout.probe_result()).await;
    let token = prepare_files(&appliance, layout)?;

    let vsock = Vsock::open(layout, u32::from_ne_bytes(random()?)).await?;

    let host_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let config = QemuConfig {
        accelerator,
        kernel,
        initrd: layout.initrd(),
        disk: layout.disk(),
        vsock: vsock.device.clone(),
        qmp: layout.helper_socket("qmp"),
        cpus: accel::processors(accelerator, version.await, host_cpus),
        memory_mib: memory_mib(),
    };
    let started = Instant::now();
    let mut child = start_qemu(&qemu, &config)?;
    let console = Console::follow(&mut child, &layout.console_log());
    let mut ready = Ready {
        door: vsock.door.clone(),
        token,
        boot_ms: 0,
    };
    wait_for_agent(&mut child, &ready, &console).await?;
    ready.boot_ms = started.elapsed().as_millis() as u64;
    // Its content is in the guest's memory now.
    let _ = std::fs::remove_file(layout.initrd());
    let shares = Shares::new(appliance.verified(VIRTIOFS_HELPER)?, layout.clone());
    let booted = Booted {
        pid: child.id().unwrap_or_default(),
        qemu: Some(child),
        accelerator,
        shares: Rc::new(tokio::sync::Mutex::new(shares)),
        vsock: Some(vsock),
    };
    Ok((booted, ready))
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

fn start_qemu(qemu: &Path, config: &QemuConfig) -> Result<Child, MachineError> {
    let mut command = Command::new(qemu);
    command.args(arguments(config));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    helper::die_with_us(&mut command);
    command.spawn().map_err(MachineError::io("start", qemu))
}

async fn wait_for_agent(
    qemu: &mut Child,
    ready: &Ready,
    console: &Console,
) -> Result<(), MachineError> {
    let answered = async {
        console.ready.notified().await;
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
    let Ok(dialed) = dial_guest(ready).await else {
        return false;
    };
    match Conversation::open(dialed, &Request::Ping).await {
        Ok(conversation) => conversation.reply().await.is_ok(),
        Err(_) => false,
    }
}

/// What the guest prints: its start in a file, its end in memory.
struct Console {
    tail: Arc<Mutex<Vec<u8>>>,
    /// The agent says that it listens.
    ready: Arc<Notify>,
}

impl Console {
    fn follow(qemu: &mut Child, log: &Path) -> Self {
        let console = Self {
            tail: Arc::default(),
            ready: Arc::default(),
        };
        if let Some(output) = qemu.stdout.take() {
            let (tail, ready) = (Arc::clone(&console.tail), Arc::clone(&console.ready));
            tokio::spawn(keep(output, log.to_owned(), tail, ready));
        }
        console
    }

    /// The last lines, as one line in which nothing can pose as ours.
    fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        match last.is_empty() {
            true => "(nothing)".to_owned(),
            false => crate::output::printable(&last.join(" | ")),
        }
    }
}

async fn keep(
    mut output: impl AsyncRead + Unpin,
    log: PathBuf,
    tail: Arc<Mutex<Vec<u8>>>,
    ready: Arc<Notify>,
) {
    let mut file = File::create(log).ok();
    let mut room = CONSOLE_LOG;
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let logged = &bytes[..count.min(room)];
        room -= logged.len();
        if let Some(file) = &mut file {
            // The console is a convenience; the machine runs without its log.
            let _ = file.write_all(logged);
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(CONSOLE_TAIL);
        tail.drain(..surplus);
        if String::from_utf8_lossy(&tail).contains(READY_LINE) {
            ready.notify_one();
        }
    }
}
