//! The agent's side: starting a shim, and calling on one that runs.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;

use isolazi_protocol::Transport;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::container::ContainerDir;
use crate::launch::plan::LaunchPlan;
use crate::shim::main::ARGV0;
use crate::shim::wire::{ShimRequest, ShimStart};
use crate::sys::executable;
use crate::sys::idmap::is_nested;
use crate::systemd;

/// Starts a shim for the container in `dir`, hands it the container's lock and
/// the plan, and returns the connection on which it answers.
pub async fn spawn(
    dir: &ContainerDir,
    lock: &File,
    mut start: ShimStart,
) -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let complaints = File::options()
        .append(true)
        .create(true)
        .open(dir.shim_log())?;
    let executable = executable::read_only_self()?;
    let mut shim = Command::new(executable.path())
        .arg0(ARGV0)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(complaints))
        .spawn()?;
    if let Some(pid) = shim.id() {
        start.plan.cgroup.unscoped = scope(pid, &start.plan).await;
    }
    // It lives on if this process ends first. Otherwise it is reaped by its
    // descriptor: the runtime would reap it on SIGCHLD, which a guest's agent
    // does not get if its parent had that blocked.
    tokio::spawn(async move { shim.wait().await });
    send_lock(&ours, lock)?;
    ours.set_nonblocking(true)?;
    let mut transport = Transport::new(UnixStream::from_std(ours)?);
    transport
        .send_message(&start)
        .await
        .map_err(io::Error::other)?;
    Ok(transport.into_parts().0)
}

/// Has systemd give the shim a scope, where it runs the host and nobody has said where
/// the container's group is to be. Returns why not, if a user should know: one who is
/// not root has no groups then, and is told so by the first limit that takes one.
async fn scope(pid: u32, plan: &LaunchPlan) -> Option<String> {
    if plan.cgroup.path.starts_with('/') || !systemd::is_there() {
        return None;
    }
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let (container, slice) = (plan.id.short().to_owned(), plan.cgroup.slice.clone());
    let asked = move || systemd::give_scope(pid, &container, slice.as_deref());
    let error = tokio::task::spawn_blocking(asked).await.ok()?.err()?;
    (!is_nested()).then(|| {
        let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
        format!(
            "{error}{}; its limits may be lost when systemd reloads",
            cause.unwrap_or_default()
        )
    })
}

fn send_lock(socket: &StdUnixStream, lock: &File) -> io::Result<()> {
    let descriptors = [lock.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let payload = [IoSlice::new(&[0])];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &payload,
        &rights,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// Connects to the shim of a living container and makes `request`.
pub async fn connect(dir: &ContainerDir, request: &ShimRequest) -> io::Result<UnixStream> {
    // A socket's address is limited to 108 bytes (unix(7)); by way of the
    // folder's descriptor it always fits.
    let folder = File::open(dir.path())?;
    let address = format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd());
    let mut transport = Transport::new(UnixStream::connect(address).await?);
    transport
        .send_message(request)
        .await
        .map_err(io::Error::other)?;
    Ok(transport.into_parts().0)
}
