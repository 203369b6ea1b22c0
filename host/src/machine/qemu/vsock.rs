//! The vsock between host and guest: the host kernel's own where it has one
//! that this user may use, else one made by a helper, which needs no rights.
//!
//! ```text
//!  Kernel      AF_VSOCK cid:1024 ─► vhost-vsock (/dev/vhost-vsock) ─► guest
//!  VhostUser   unix socket ─► the helper, which is this program ─► guest
//! ```

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use isolazi_protocol::AGENT_VSOCK_PORT;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::helper;
use super::layout::Layout;
use super::process::{Identity, Process};
use crate::connection::ByteStream;
use crate::machine::MachineError;

/// How the kernel offers vsocks for guests.
pub(super) const KERNEL_DEVICE: &str = "/dev/vhost-vsock";
/// The guest's address where only the helper knows it.
const PRIVATE_CID: u32 = 3;
/// Addresses below are the hypervisor's, the host's and the loopback's (vsock(7)).
const FIRST_CID: u32 = 3;
/// What this program is called where it is the helper.
const HELPER_ARGV0: &str = "isolazi-vsock";

/// Where commands reach the guest's vsock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// At this address, through the host's kernel.
    Kernel {
        /// Context identifier of the guest.
        cid: u32,
    },
    /// By way of this unix socket.
    Socket {
        /// Listened at by the helper.
        path: PathBuf,
    },
}

/// What QEMU is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    Kernel {
        cid: u32,
    },
    /// The helper listens here for QEMU.
    VhostUser {
        socket: PathBuf,
    },
}

/// A vsock that QEMU can be started with.
pub(super) struct Vsock {
    pub(super) device: Device,
    pub(super) door: Door,
    helper: Option<Process>,
}

impl Vsock {
    /// The best one that there is. `random` chooses among the addresses of the
    /// kernel's, which all guests of the host share.
    pub(super) async fn open(layout: &Layout, random: u32) -> Result<Self, MachineError> {
        if is_usable(Path::new(KERNEL_DEVICE)) {
            let cid = address(random);
            return Ok(Self {
                device: Device::Kernel { cid },
                door: Door::Kernel { cid },
                helper: None,
            });
        }
        let (device, door) = (
            layout.helper_socket("vsock-device"),
            layout.helper_socket("vsock"),
        );
        let _ = std::fs::remove_file(&door);
        let helper = helper::start(helper_command(&device, &door)?, &device).await?;
        Ok(Self {
            device: Device::VhostUser { socket: device },
            door: Door::Socket { path: door },
            helper: Some(helper.into()),
        })
    }

    /// What has to run as long as QEMU.
    pub(super) fn into_helper(self) -> Option<Process> {
        self.helper
    }

    pub(super) fn helper(&self) -> Option<Identity> {
        self.helper.as_ref().and_then(Process::identity)
    }
}

fn helper_command(device: &Path, door: &Path) -> Result<Command, MachineError> {
    let program =
        std::env::current_exe().map_err(MachineError::io("find", Path::new("isolazi")))?;
    let mut command = Command::new(program);
    command.arg0(HELPER_ARGV0).arg(device).arg(door);
    Ok(command)
}

/// Runs the helper if that is what this process was started as.
#[cfg(target_os = "linux")]
pub fn run_if_vsock_helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != HELPER_ARGV0 {
        return None;
    }
    let (device, door) = (arguments.next()?, arguments.next()?);
    // Half a device would leave everybody waiting.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let confinement = super::confine::Confinement {
        write: Path::new(&device)
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .collect(),
        ..Default::default()
    };
    if let Err(error) = confinement.enter() {
        crate::output::error(error);
        return Some(ExitCode::FAILURE);
    }
    let destination = isolazi_vsock_device::Destination {
        cid: PRIVATE_CID,
        port: AGENT_VSOCK_PORT,
    };
    let served = isolazi_vsock_device::run(Path::new(&device), Path::new(&door), destination);
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            crate::output::error(failure);
            ExitCode::FAILURE
        }
    })
}

/// Whether this user may open the device.
fn is_usable(device: &Path) -> bool {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .is_ok()
}

/// Any address that can be a guest's: 31 bits, so that no tool takes it for
/// negative.
fn address(random: u32) -> u32 {
    const MOST: u32 = i32::MAX as u32;
    FIRST_CID + random % (MOST - FIRST_CID)
}

impl Door {
    /// Connects to the agent's port.
    pub(super) async fn dial(&self) -> Result<Box<dyn ByteStream>, MachineError> {
        match self {
            Self::Kernel { cid } => dial_kernel(*cid).await,
            Self::Socket { path } => {
                let dialed = UnixStream::connect(path).await;
                Ok(Box::new(
                    dialed.map_err(MachineError::io("reach the agent at", path))?,
                ))
            }
        }
    }
}

#[cfg(target_os = "linux")]
async fn dial_kernel(cid: u32) -> Result<Box<dyn ByteStream>, MachineError> {
    let address = tokio_vsock::VsockAddr::new(cid, AGENT_VSOCK_PORT);
    let stream = tokio_vsock::VsockStream::connect(address).await;
    let name = format!("vsock {cid}:{AGENT_VSOCK_PORT}");
    let stream = stream.map_err(MachineError::io("reach the agent at", Path::new(&name)))?;
    Ok(Box::new(stream))
}

#[cfg(not(target_os = "linux"))]
async fn dial_kernel(_cid: u32) -> Result<Box<dyn ByteStream>, MachineError> {
    Err(MachineError::Failed(
        "only Linux has vsocks of its own; restart the machine with: isolazi vm stop".to_owned(),
    ))
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

    #[test]
    fn a_device_that_cannot_be_opened_is_not_used() {
        assert!(!is_usable(Path::new("/dev/no-such-vsock")));
        assert!(is_usable(Path::new("/dev/null")));
    }

    #[tokio::test]
    async fn a_guest_that_is_not_there_is_named() {
        let door = Door::Socket {
            path: "/no/such/vsock.sock".into(),
        };
        let error = door.dial().await.unwrap_err();
        assert!(error.to_string().contains("/no/such/vsock.sock"));
    }
}
