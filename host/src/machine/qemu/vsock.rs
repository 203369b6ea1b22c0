//! The vsock between host and guest: the host kernel's own where it has one
//! that this user may use, else one made by a helper, which needs no rights.
//!
//! ```text
//!  Kernel      AF_VSOCK cid:1024 ─► vhost-vsock (/dev/vhost-vsock) ─► guest
//!  VhostUser   unix socket ─► the helper, which is this program ─► guest
//! ```

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use isolazi_protocol::AGENT_VSOCK_PORT;
use isolazi_vsock_device::{Destination, Sockets};
use tokio::process::Command;

use super::confine::Confinement;
use super::handed::Handed;
use super::helper;
use super::user::User;
use crate::machine::MachineError;
use crate::machine::supervised::{Door, Layout, Process};

/// How the kernel offers vsocks for guests.
pub(super) const KERNEL_DEVICE: &str = "/dev/vhost-vsock";
/// The guest's address where only the helper knows it.
const PRIVATE_CID: u32 = 3;
/// Addresses below are the hypervisor's, the host's and the loopback's (vsock(7)).
const FIRST_CID: u32 = 3;
/// What this program is called where it is the helper.
const HELPER_ARGV0: &str = "isolazi-vsock";

/// What QEMU is given.
#[derive(Debug)]
pub(super) enum Device {
    Kernel {
        cid: u32,
        device: Handed,
    },
    /// To the helper.
    VhostUser {
        connection: Handed,
    },
}

/// A vsock that QEMU can be started with.
pub(super) struct Vsock {
    pub(super) device: Device,
    pub(super) door: Door,
    /// What has to run as long as QEMU.
    pub(super) helper: Option<Process>,
}

impl Vsock {
    /// The best one that there is. `random` chooses among the addresses of the
    /// kernel's, which all guests of the host share.
    pub(super) async fn open(
        layout: &Layout,
        user: Option<&User>,
        random: u32,
    ) -> Result<Self, MachineError> {
        if let Ok(device) = Handed::to_write(Path::new(KERNEL_DEVICE)) {
            let cid = address(random);
            return Ok(Self {
                device: Device::Kernel { cid, device },
                door: Door::Kernel { cid },
                helper: None,
            });
        }
        let (device, door) = (
            layout.helper_socket("vsock-device"),
            layout.helper_socket("vsock"),
        );
        let _ = std::fs::remove_file(&door);
        let helper = helper::start(helper_command(user, &device, &door)?, &device).await?;
        let connection = Handed::connected(&device)?;
        // There is no second one.
        let _ = std::fs::remove_file(&device);
        Ok(Self {
            device: Device::VhostUser { connection },
            door: Door::Socket { path: door },
            helper: Some(helper.into()),
        })
    }
}

fn helper_command(
    user: Option<&User>,
    device: &Path,
    door: &Path,
) -> Result<Command, MachineError> {
    let confinement = Confinement {
        user: user.cloned(),
        ..Confinement::default()
    };
    let program =
        std::env::current_exe().map_err(MachineError::io("find", Path::new("isolazi")))?;
    let mut command = Command::new(program);
    let rules = confinement.to_json(Path::new(HELPER_ARGV0))?;
    command.arg0(HELPER_ARGV0).arg(rules).arg(device).arg(door);
    Ok(command)
}

/// Runs the helper if that is what this process was started as.
pub fn run_if_vsock_helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != HELPER_ARGV0 {
        return None;
    }
    let (rules, device, door) = (arguments.next()?, arguments.next()?, arguments.next()?);
    // Half a device would leave everybody waiting.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    Some(match serve(&rules, Path::new(&device), Path::new(&door)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            crate::output::error(failure);
            ExitCode::FAILURE
        }
    })
}

/// Its sockets are made first: from then on it needs nothing of the host's.
fn serve(rules: &OsStr, device: &Path, door: &Path) -> anyhow::Result<()> {
    let sockets = Sockets::listen(device, door)?;
    Confinement::from_json(rules)?.enter()?;
    let destination = Destination {
        cid: PRIVATE_CID,
        port: AGENT_VSOCK_PORT,
    };
    Ok(isolazi_vsock_device::run(sockets, destination)?)
}

/// Any address that can be a guest's: 31 bits, so that no tool takes it for
/// negative.
fn address(random: u32) -> u32 {
    const MOST: u32 = i32::MAX as u32;
    FIRST_CID + random % (MOST - FIRST_CID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ones_that_a_guest_can_have() {
        for random in [0, 1, 7, i32::MAX as u32, u32::MAX] {
            let cid = address(random);
            assert!((FIRST_CID..i32::MAX as u32).contains(&cid), "{cid}");
        }
        assert_ne!(address(1), address(2));
    }
}
