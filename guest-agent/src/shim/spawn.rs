//! The agent's side: starting a shim, and calling on one that runs.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;

use isolazi_protocol::Transport;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use nix::unistd::Pid;
use tokio::io::Interest;
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

/// Makes `request` to the shim of a living container, and waits until its answer begins.
///
/// # Errors
/// Also where the shim ends without a word, as one does that was already ending.
pub async fn ask(dir: &ContainerDir, request: &ShimRequest) -> io::Result<UnixStream> {
    // A socket's address is limited to 108 bytes (unix(7)); by way of the
    // folder's descriptor it always fits.
    let folder = File::open(dir.path())?;
    let address = format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd());
    let mut transport = Transport::new(UnixStream::connect(address).await?);
    transport
        .send_message(request)
        .await
        .map_err(io::Error::other)?;
    let stream = transport.into_parts().0;
    begins(&stream).await?;
    Ok(stream)
}

/// Waits for the first byte, which stays unread.
async fn begins(stream: &UnixStream) -> io::Result<()> {
    let peek = || {
        let received = recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK)?;
        Ok(received)
    };
    match stream.async_io(Interest::READABLE, peek).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_waited_for_and_left_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("shim.sock")).unwrap();
        let dir = ContainerDir::new(folder.path().to_owned());
        let answering = async {
            let (caller, _) = listener.accept().await.unwrap();
            let mut caller = Transport::new(caller);
            let _: ShimRequest = caller.receive_message().await.unwrap();
            caller.send_raw(b"x").await.unwrap();
        };
        let (answered, ()) = tokio::join!(ask(&dir, &ShimRequest::Wait), answering);
        let mut answer = Vec::new();
        answered.unwrap().read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"x");
    }

    #[tokio::test]
    async fn a_shim_that_ends_before_it_looks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("shim.sock")).unwrap();
        let dir = ContainerDir::new(folder.path().to_owned());
        let asking = ask(&dir, &ShimRequest::Wait);
        tokio::pin!(asking);
        // Its words are there, and nobody has taken the call.
        let pending = futures_util::poll!(&mut asking);
        assert!(pending.is_pending());
        drop(listener);
        asking.await.unwrap_err();
    }
}
