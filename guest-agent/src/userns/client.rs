//! The command's side: starting an engine inside, and calling it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use isolazi_protocol::{ErrorCode, WireError};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::engine::Report;
use super::enter;
use crate::sys::channel;

/// An engine in the user's namespaces, for as long as this value lives.
#[derive(Debug)]
pub struct Rootless {
    control: OwnedFd,
}

impl Rootless {
    /// Starts the engine of a data root, and its namespaces where there are none.
    /// Returns what the user has to be told as well.
    pub async fn start(root: &Path) -> Result<(Self, Vec<String>), WireError> {
        let (rootless, said) = spawn(root).await.map_err(|error| {
            let message = format!("cannot start the engine of rootless containers: {error}");
            WireError::new(ErrorCode::Internal, message)
        })?;
        let report: Report = serde_json::from_slice(&said).map_err(|_| {
            let message = "the engine of rootless containers ended at once; please report this";
            WireError::new(ErrorCode::Internal, message)
        })?;
        report.map(|notes| (rootless, notes))
    }

    /// A connection to it.
    pub fn dial(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = StdUnixStream::pair()?;
        channel::send(self.control.as_fd(), &[0], Some(theirs.as_fd()))?;
        ours.set_nonblocking(true)?;
        UnixStream::from_std(ours)
    }
}

async fn spawn(root: &Path) -> io::Result<(Rootless, Vec<u8>)> {
    let (control, theirs) = channel::pair()?;
    let mut engine = Command::new("/proc/self/exe")
        .arg0(enter::ARGV0)
        .arg(root)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = Vec::new();
    if let Some(mut stdout) = engine.stdout.take() {
        stdout.read_to_end(&mut said).await?;
    }
    tokio::spawn(async move { engine.wait().await });
    Ok((Rootless { control }, said))
}
