//! The way to the agent in the guest.

use std::path::PathBuf;

use isolazi_protocol::AGENT_VSOCK_PORT;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::connection::ByteStream;
use crate::machine::MachineError;

/// Where commands reach the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// At this vsock address, through the host's kernel.
    Kernel {
        /// Context identifier of the guest.
        cid: u32,
    },
    /// By way of this unix socket.
    Socket {
        /// Listened at by whatever stands for the guest.
        path: PathBuf,
    },
}

impl Door {
    /// Connects to the agent.
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
    let stream = stream.map_err(MachineError::io(
        "reach the agent at",
        std::path::Path::new(&name),
    ))?;
    Ok(Box::new(stream))
}

#[cfg(not(target_os = "linux"))]
async fn dial_kernel(cid: u32) -> Result<Box<dyn ByteStream>, MachineError> {
    Err(MachineError::Failed(format!(
        "vsock {cid}:{AGENT_VSOCK_PORT} cannot be reached, as only Linux has vsocks of its own; restart the machine with: isolazi vm stop"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_is_not_there_is_named() {
        let door = Door::Socket {
            path: "/no/such/vsock.sock".into(),
        };
        let error = door.dial().await.unwrap_err();
        assert!(error.to_string().contains("/no/such/vsock.sock"));
    }
}
