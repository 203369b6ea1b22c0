//! The vsock between host and guest: the host kernel's own where it has one
//! that this user may use, else one made by a helper, which needs no rights.
//!
//! ```text
//!  Kernel      AF_VSOCK cid:1024 ─► vhost-vsock (/dev/vhost-vsock) ─► guest
//!  VhostUser   unix socket, "CONNECT 1024" ─► vhost-device-vsock ─► guest
//! ```

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use isolazi_protocol::AGENT_VSOCK_PORT;
use isolazi_protocol::appliance::VSOCK_HELPER;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::helper;
use super::layout::Layout;
use crate::connection::ByteStream;
use crate::machine::MachineError;
use crate::machine::appliance::Appliance;

/// How the kernel offers vsocks for guests.
const KERNEL_DEVICE: &str = "/dev/vhost-vsock";
/// The guest's address where only the helper knows it.
const PRIVATE_CID: u32 = 3;
/// Addresses below are the hypervisor's, the host's and the loopback's (vsock(7)).
const FIRST_CID: u32 = 3;
/// Longest answer to `CONNECT`.
const LONGEST_ACCEPTANCE: usize = 32;

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
    /// Ends with this value.
    _helper: Option<Child>,
}

impl Vsock {
    /// The best one that there is. `random` chooses among the addresses of the
    /// kernel's, which all guests of the host share.
    pub(super) async fn open(
        appliance: &Appliance,
        layout: &Layout,
        random: u32,
    ) -> Result<Self, MachineError> {
        if is_usable(Path::new(KERNEL_DEVICE)) {
            let cid = address(random);
            return Ok(Self {
                device: Device::Kernel { cid },
                door: Door::Kernel { cid },
                _helper: None,
            });
        }
        let (device, door) = (
            layout.helper_socket("vsock-device"),
            layout.helper_socket("vsock"),
        );
        let _ = std::fs::remove_file(&door);
        let mut command = Command::new(appliance.verified(VSOCK_HELPER)?);
        command.args(["--guest-cid", &PRIVATE_CID.to_string()]);
        command.arg("--socket").arg(&device);
        command.arg("--uds-path").arg(&door);
        let helper = helper::start(command, &device).await?;
        Ok(Self {
            device: Device::VhostUser { socket: device },
            door: Door::Socket { path: door },
            _helper: Some(helper),
        })
    }
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
                let dialed = dial_socket(path).await;
                dialed.map_err(MachineError::io("reach the agent at", path))
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

/// The helper's protocol is that of Firecracker and cloud-hypervisor: the port
/// in a line, and an answer in a line.
async fn dial_socket(path: &Path) -> std::io::Result<Box<dyn ByteStream>> {
    let mut stream = UnixStream::connect(path).await?;
    let hello = format!("CONNECT {AGENT_VSOCK_PORT}\n");
    stream.write_all(hello.as_bytes()).await?;
    read_acceptance(&mut stream).await?;
    Ok(Box::new(stream))
}

/// Reads `OK <port>\n`, and not a byte more.
async fn read_acceptance(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut line = Vec::with_capacity(LONGEST_ACCEPTANCE);
    while line.len() < LONGEST_ACCEPTANCE {
        match stream.read_u8().await? {
            b'\n' if line.starts_with(b"OK") => return Ok(()),
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Err(std::io::ErrorKind::ConnectionRefused.into())
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
    async fn an_answer_that_is_no_acceptance_is_a_refusal() {
        for (answer, accepted) in [("OK 1073741824\n", true), ("NO\n", false), ("", false)] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            theirs.write_all(b"more").await.unwrap();
            drop(theirs);
            assert_eq!(read_acceptance(&mut ours).await.is_ok(), accepted);
        }
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
