//! Guests under QEMU, on Linux.
//!
//! ```text
//!  supervisor ─┬─► QEMU ──► guest
//!              ├─► its vsock, where the kernel has none
//!              └─► virtiofsd, one a folder
//! ```

mod accel;
mod command;
mod confine;
mod console;
mod examine;
mod handed;
mod helper;
mod hypervisor;
mod qmp;
mod shares;
mod user;
mod vsock;

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use isolazi_protocol::appliance::VIRTIOFS_HELPER;
use isolazi_protocol::{Finding, GuestNetwork, HostAddress};

use crate::machine::appliance::{self, Appliance};
use crate::machine::backend::find_program;
use crate::machine::supervised::{
    self, Hypervisor, Layout, Record, Started, memory_mib, prepare_files, random, settings,
};
use crate::machine::{Backend, MachineError, MachineSize, Outside, Resolver};
use crate::paths::Paths;

pub use confine::{run_if_confined, run_if_namespace_probe};
pub use vsock::run_if_vsock_helper;

use command::{Disk, QemuConfig};
use handed::Handed;
use shares::Shares;
use user::User;
use vsock::Vsock;

/// The hypervisor.
#[derive(Debug)]
pub(crate) struct Qemu;

impl Hypervisor for Qemu {
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
        layout: &Layout,
        record: Record,
    ) -> Result<Box<dyn supervised::Shares>, MachineError> {
        let virtiofsd = Appliance::open(&appliance::folder(paths))?.helper(VIRTIOFS_HELPER)?;
        Ok(Box::new(Shares::adopt(virtiofsd, layout.clone(), record)))
    }

    fn confine_supervisor(&self) {
        if let Err(error) = confine::call_nobody() {
            let error = anyhow::Error::from(error);
            crate::output::warning(&format!("the supervisor is not confined: {error:#}"));
        }
    }

    fn follow_console(&self, layout: &Layout) -> Result<(), MachineError> {
        let log = layout.console_log();
        let mut options = File::options();
        let log = options
            .append(true)
            .create(true)
            .open(&log)
            .map_err(MachineError::io("write", &log))?;
        console::follow(layout.helper_socket("console"), log);
        Ok(())
    }

    fn examine<'a>(&'a self, layout: &'a Layout) -> BoxFuture<'a, Vec<Finding>> {
        async move { examine::findings(&layout.probe_result()).await }.boxed()
    }

    /// Its own sockets, which it has not made and so cannot remove.
    fn remains(&self, layout: &Layout) -> Vec<PathBuf> {
        let names = ["qmp", "console"];
        names.map(|name| layout.helper_socket(name)).to_vec()
    }

    fn outside(&self) -> Outside {
        Outside {
            host: HostAddress::At(command::HOST_IN_GUEST),
            resolver: Resolver::At(command::RESOLVER_IN_GUEST),
        }
    }
}

async fn start(paths: &Paths, layout: &Layout) -> Result<Started, MachineError> {
    let appliance = Appliance::open(&appliance::folder(paths))?;
    let qemu =
        find_program(&Backend::Qemu.program()).ok_or(MachineError::NoHypervisor(Backend::Qemu))?;
    let size = settings(paths, Backend::Qemu)?.size();
    let token = prepare_files(&appliance, layout, size, GuestNetwork::User, None)?;
    let user = User::of_machine(layout.folder());
    let random = u32::from_ne_bytes(random()?);
    let Vsock {
        device,
        door,
        helper,
    } = Vsock::open(layout, user.as_ref(), random).await?;
    let (kernel, memory) = (appliance.kernel()?, layout.probe_result());
    let hypervisor =
        hypervisor::Hypervisor::choose(qemu, kernel, user.as_ref(), &memory, size.cpus).await;
    let config = configure(&hypervisor, layout, device, size)?;

    let since = Instant::now();
    let child = hypervisor.start(config, &layout.initrd())?;
    let log = layout.console_log();
    let log = File::create(&log).map_err(MachineError::io("write", &log))?;
    let console = console::follow(layout.helper_socket("console"), log);
    Ok(Started {
        process: child.into(),
        helper,
        door,
        token,
        accelerator: hypervisor.accelerator.name().to_owned(),
        console,
        since,
        shares: Vec::new(),
    })
}

fn configure(
    hypervisor: &hypervisor::Hypervisor,
    layout: &Layout,
    vsock: vsock::Device,
    size: MachineSize,
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
        memory_mib: memory_mib(size),
    })
}
