//! vfkit as the hypervisor of a supervised machine.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use futures_util::future::{FutureExt, LocalBoxFuture};
use isolazi_protocol::{AGENT_VSOCK_PORT, GuestNetwork, HostAddress};
use tokio::process::Command;

use super::command::{ROSETTA_TAG, VfkitConfig, arguments};
use super::{control, kernel};
use crate::config::MachineConfig;
use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::find_program;
use crate::machine::fingerprint::fingerprint;
use crate::machine::supervised::{
    Console, Door, Folders, Hypervisor, Layout, Record, ShareRecord, Shares, Started, memory_mib,
    prepare_files, processors, settings, shared_folders,
};
use crate::machine::{Backend, MachineError, Outside, Resolver};
use crate::paths::Paths;

/// The host as guests see it, which also resolves names for them: the first address of
/// the network that macOS gives to virtual machines, where its administrator has not set
/// another (`Shared_Net_Address` in com.apple.vmnet.plist).
const HOST_IN_GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);

/// The hypervisor.
#[derive(Debug)]
pub(crate) struct Vfkit;

impl Hypervisor for Vfkit {
    fn start<'a>(
        &'a self,
        paths: &'a Paths,
        layout: &'a Layout,
    ) -> LocalBoxFuture<'a, Result<Started, MachineError>> {
        std::future::ready(start(paths, layout)).boxed_local()
    }

    fn shares(
        &self,
        paths: &Paths,
        _layout: &Layout,
        record: Record,
    ) -> Result<Box<dyn Shares>, MachineError> {
        let folders = Folders::by_tag(record.shares, paths.config());
        Ok(Box::new(folders))
    }

    fn cut_power<'a>(&'a self, layout: &'a Layout) -> LocalBoxFuture<'a, ()> {
        control::cut_power(control_socket(layout)).boxed_local()
    }

    fn remains(&self, layout: &Layout) -> Vec<PathBuf> {
        vec![agent_socket(layout), control_socket(layout)]
    }

    fn outside(&self) -> Outside {
        Outside {
            host: HostAddress::At(HOST_IN_GUEST),
            resolver: Resolver::At(HOST_IN_GUEST),
        }
    }
}

fn agent_socket(layout: &Layout) -> PathBuf {
    layout.helper_socket("agent")
}

fn control_socket(layout: &Layout) -> PathBuf {
    layout.helper_socket("vfkit")
}

fn start(paths: &Paths, layout: &Layout) -> Result<Started, MachineError> {
    let program = find_program(&Backend::Vfkit.program())
        .ok_or(MachineError::NoHypervisor(Backend::Vfkit))?;
    let appliance = Appliance::open(&appliance::folder(paths))?;
    let settings = settings(paths, Backend::Vfkit)?;
    let size = settings.size();
    let shares = shares(&settings, &paths.config())?;
    let config = VfkitConfig {
        cpus: processors(size),
        memory_mib: memory_mib(size),
        kernel: kernel::choose(&appliance, layout)?,
        initrd: layout.initrd(),
        disk: layout.disk(),
        mac: mac(layout.folder()),
        agent_port: AGENT_VSOCK_PORT,
        agent_socket: agent_socket(layout),
        control_socket: control_socket(layout),
        console_log: layout.console_log(),
        shares: shares
            .iter()
            .map(|share| (share.folder.clone(), share.tag.clone()))
            .collect(),
        rosetta: settings.rosetta,
    };
    let arguments = arguments(&config)?;
    let rosetta = config.rosetta.then_some(ROSETTA_TAG);
    let token = prepare_files(&appliance, layout, size, GuestNetwork::Dhcp, rosetta)?;
    // Whose it was is gone, and vfkit does not listen where something lies.
    for socket in [&config.agent_socket, &config.control_socket] {
        let _ = std::fs::remove_file(socket);
    }
    let log = layout.console_log();
    File::create(&log).map_err(MachineError::io("write", &log))?;
    let since = Instant::now();
    let child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(MachineError::io("start", &program))?;
    Ok(Started {
        process: child.into(),
        helper: None,
        door: Door::Socket {
            path: config.agent_socket,
        },
        token,
        accelerator: "vz".to_owned(),
        console: Console::follow_file(log),
        since,
        shares,
    })
}

/// All shared folders, each with its tag.
fn shares(settings: &MachineConfig, file: &Path) -> Result<Vec<ShareRecord>, MachineError> {
    let folders = shared_folders(settings.shared_folders.as_deref(), file)?;
    let numbered = folders.into_iter().zip(1..);
    let shares = numbered.map(|(folder, number)| ShareRecord {
        folder,
        read_only: false,
        tag: format!("share-{number}"),
        daemon: None,
    });
    Ok(shares.collect())
}

/// One of the machine's own: locally administered, and for a single card (IEEE 802).
fn mac(folder: &Path) -> [u8; 6] {
    let [a, b, c, d, e, ..] = fingerprint(folder).to_be_bytes();
    [0x52, a, b, c, d, e]
}
