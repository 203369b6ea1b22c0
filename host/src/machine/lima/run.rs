//! Lima as the hypervisor of a supervised machine.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use isolazi_protocol::appliance::INITRAMFS;
use isolazi_protocol::{HostAddress, Request, Token};
use serde::Deserialize;
use tokio::process::Command;

use super::agent;
use super::template::{self, AGENT_FILE, Instance, template};
use crate::files;
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::find_program;
use crate::machine::fingerprint::fingerprint;
use crate::machine::supervised::{
    Console, Door, Folders, Hypervisor, Identity, Layout, Process, Ready, Record, ShareRecord,
    Shares, Started, ask_agent, memory_mib, processors, random, settings, shared_folders,
};
use crate::machine::{Backend, MachineError, Outside, Resolver};
use crate::paths::Paths;

/// The host, and who resolves names as it does, in Lima's network
/// (`website/content/en/docs/config/network/user.md`).
const HOST_IN_GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 2);
const RESOLVER_IN_GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 3);

/// The hypervisor.
#[derive(Debug)]
pub(crate) struct Lima;

impl Hypervisor for Lima {
    fn start<'a>(
        &'a self,
        paths: &'a Paths,
        layout: &'a Layout,
    ) -> LocalBoxFuture<'a, Result<Started, MachineError>> {
        start(paths, layout).boxed_local()
    }

    fn shares(
        &self,
        paths: &Paths,
        _layout: &Layout,
        record: Record,
    ) -> Result<Box<dyn Shares>, MachineError> {
        let folders = Folders::by_path(record.shares, paths.config());
        Ok(Box::new(folders))
    }

    /// The agent stops the containers, and Lima the guest.
    fn shut_down<'a>(&'a self, layout: &'a Layout, ready: &'a Ready) -> LocalBoxFuture<'a, ()> {
        async move {
            let _ = ask_agent(ready, &Request::Shutdown).await;
            stop(layout, false).await;
        }
        .boxed_local()
    }

    fn cut_power<'a>(&'a self, layout: &'a Layout) -> LocalBoxFuture<'a, ()> {
        stop(layout, true).boxed_local()
    }

    /// The instance is Lima's, and its disk in Lima's folder.
    fn forget<'a>(&'a self, layout: &'a Layout) -> BoxFuture<'a, Result<bool, MachineError>> {
        async move {
            let name = name(layout);
            let existed = find(&name).await?.is_some();
            if existed {
                limactl(&template::delete(&name)).await?;
            }
            Ok(existed)
        }
        .boxed()
    }

    fn console_log(&self, layout: &Layout) -> Result<PathBuf, MachineError> {
        Err(MachineError::Failed(format!(
            "Lima keeps the guest's console itself: see serial*.log in its folder of {}, ~/.lima if LIMA_HOME names no other",
            name(layout)
        )))
    }

    fn remains(&self, layout: &Layout) -> Vec<PathBuf> {
        vec![agent_socket(layout)]
    }

    fn outside(&self) -> Outside {
        Outside {
            host: HostAddress::At(HOST_IN_GUEST),
            resolver: Resolver::At(RESOLVER_IN_GUEST),
        }
    }
}

fn agent_socket(layout: &Layout) -> PathBuf {
    layout.helper_socket("agent")
}

/// Each data root has an instance of its own.
fn name(layout: &Layout) -> String {
    format!("isolazi-{:08x}", fingerprint(layout.folder()) >> 32)
}

async fn stop(layout: &Layout, force: bool) {
    if let Err(error) = limactl(&template::stop(&name(layout), force)).await {
        crate::output::error(error);
    }
}

async fn start(paths: &Paths, layout: &Layout) -> Result<Started, MachineError> {
    let name = name(layout);
    let settings = settings(paths, Backend::Lima)?;
    let size = settings.size();
    let shares = shared_folders(settings.shared_folders.as_deref(), &paths.config())?;
    let token = token(layout)?;
    let instance = Instance {
        cpus: processors(size),
        memory_mib: memory_mib(size),
        disk_bytes: size.disk_bytes(),
        agent_folder: agent_folder(paths, layout)?,
        agent_socket: agent_socket(layout),
        token: Token(token).to_hex(),
        shares: shares.clone(),
    };
    let written = template(&instance)?.to_string();
    let file = layout.folder().join("lima.yaml");
    let known = find(&name).await?;
    let changed = fs::read(&file).ok().as_deref() != Some(written.as_bytes());
    let since = Instant::now();
    let arguments = match &known {
        Some(instance) if changed => return Err(other_settings(instance, &file)),
        Some(_) => template::start(&name),
        None => {
            files::replace(&file, written.as_bytes()).map_err(MachineError::io("write", &file))?;
            template::create_and_start(&name, &text(&file)?)
        }
    };
    // Of an instance that ended without Lima's doing.
    let _ = fs::remove_file(&instance.agent_socket);
    limactl(&arguments).await?;
    let running = find(&name).await?;
    let process = running
        .as_ref()
        .and_then(|instance| Identity::of(instance.host_agent_pid))
        .and_then(Process::adopt);
    let process = process.ok_or_else(|| {
        MachineError::Failed(format!(
            "Lima's instance {name} does not run; see: limactl list"
        ))
    })?;
    Ok(Started {
        process,
        helper: None,
        door: Door::Socket {
            path: instance.agent_socket,
        },
        token,
        accelerator: running.map(|it| it.vm_type).unwrap_or_default(),
        console: Console::default(),
        since,
        shares: shares.into_iter().map(shared).collect(),
    })
}

fn shared(folder: PathBuf) -> ShareRecord {
    ShareRecord {
        folder,
        read_only: false,
        tag: String::new(),
        daemon: None,
    }
}

/// Lima keeps an instance as it was made; another would be one without its containers.
fn other_settings(instance: &Listed, file: &Path) -> MachineError {
    let name = &instance.name;
    MachineError::Failed(format!(
        "the settings or the appliance have changed since Lima's instance {name} was made of {}; change it with: limactl edit {name}, or lose its containers with: limactl delete --force {name}",
        file.display()
    ))
}

/// A folder with the agent's program in it, and nothing else: the guest sees it.
fn agent_folder(paths: &Paths, layout: &Layout) -> Result<PathBuf, MachineError> {
    let folder = layout.folder().join("lima");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(MachineError::io("create", &folder))?;
    let initramfs = Appliance::open(&appliance::folder(paths))?.verified(INITRAMFS)?;
    agent::install(&initramfs, &folder.join(AGENT_FILE))
        .map_err(MachineError::io("take the agent out of", &initramfs))?;
    Ok(folder)
}

/// The instance keeps it, and so does the machine's folder.
fn token(layout: &Layout) -> Result<[u8; 32], MachineError> {
    let path = layout.folder().join("lima-token");
    if let Some(known) = fs::read(&path).ok().and_then(|it| it.try_into().ok()) {
        return Ok(known);
    }
    let token = random()?;
    fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&token))
        .map_err(MachineError::io("write", &path))?;
    Ok(token)
}

/// What limactl says of an instance (`pkg/limatype/lima_instance.go`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    #[serde(default)]
    vm_type: String,
    /// Zero where it does not run.
    #[serde(default, rename = "hostAgentPID")]
    host_agent_pid: u32,
}

async fn find(name: &str) -> Result<Option<Listed>, MachineError> {
    let said = limactl(&template::list()).await?;
    let listed = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut listed = listed.filter(|it: &Listed| it.name == name);
    Ok(listed.next())
}

fn text(path: &Path) -> Result<String, MachineError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| MachineError::Failed(format!("{} is not UTF-8; rename it", path.display())))
}

/// Runs limactl; gives what it prints. What it complains of is in the supervisor's log,
/// too.
async fn limactl(arguments: &[String]) -> Result<String, MachineError> {
    let program =
        find_program(&Backend::Lima.program()).ok_or(MachineError::NoHypervisor(Backend::Lima))?;
    let output = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        // A start that nobody waits for any more is not to go on.
        .kill_on_drop(true)
        .output()
        .await
        .map_err(MachineError::io("start", &program))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    for line in complaints.lines() {
        crate::output::failure(&crate::output::printable(line));
    }
    let last = complaints.lines().rfind(|line| !line.trim().is_empty());
    Err(MachineError::Failed(format!(
        "limactl {} failed ({}): {}",
        arguments.join(" "),
        output.status,
        crate::output::printable(last.unwrap_or("it says nothing"))
    )))
}
