//! The shim as a program: how it is recognised, and what it lets go of.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;

use isolazi_protocol::Transport;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use crate::launch::raise_descriptors;
use crate::shim::life::Shim;
use crate::shim::wire::ShimStart;
use crate::sys::descriptor;

/// How a shim is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-shim";

/// Runs the shim if that is what this process was started as. To be called
/// first thing in `main`, before any thread exists.
pub fn run_if_shim() -> Option<ExitCode> {
    let is_shim = std::env::args_os().next().is_some_and(|name| name == ARGV0);
    is_shim.then(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run() -> io::Result<()> {
    let agent = detach()?;
    let lock = File::from(descriptor::receive(&agent)?);
    agent.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let mut agent = Transport::new(UnixStream::from_std(agent)?);
        let mut start: ShimStart = agent.receive_message().await.map_err(io::Error::other)?;
        take_descriptors(&mut start);
        Shim::new(start, lock).live(agent).await
    })
}

/// Every relayed connection takes two descriptors. What the shim takes is not the
/// container's, whose processes have the limit that they would have had.
fn take_descriptors(start: &mut ShimStart) {
    let before = raise_descriptors(None);
    let theirs = start.descriptors.or(before);
    // Those that were asked for come later, and count.
    start.plan.settings.ulimits.splice(0..0, theirs);
}

/// Leaves the session, folder and descriptors of whoever started the shim, and
/// returns the connection to the agent, which came as standard input.
fn detach() -> io::Result<StdUnixStream> {
    // Fails only for a process group leader, which a spawned child is not.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let agent = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    descriptor::close_from(3, agent.as_raw_fd())?;
    Ok(agent)
}
