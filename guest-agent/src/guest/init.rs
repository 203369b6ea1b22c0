//! PID 1: brings the guest up, keeps the server running, shuts down.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use isolazi_protocol::{BootConfig, one_line};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::error::GuestError;
use super::{EXECUTABLE, SERVER_ROLE, boot, config, disk, shutdown};

/// Runs the guest until it is shut down; never returns to the kernel, which
/// would panic.
pub fn run() -> ExitCode {
    match start() {
        Ok(guest) => supervise(&guest),
        Err(error) => {
            eprintln!("isolazi: fatal: {}", one_line(&error));
            shutdown::cut_power()
        }
    }
}

/// A guest that is up.
struct Guest {
    config: BootConfig,
    signals: SignalFd,
    /// Its first server.
    server: Pid,
}

/// Everything up to the first server, in the order in which steps depend on
/// each other. The server's program is loaded while the disk is waited for.
fn start() -> Result<Guest, GuestError> {
    let signals = watch_signals()?;
    let config = config::take()?;
    boot::enter_root()?;
    boot::mount_all()?;
    let server = launch()?;
    boot::enable_controllers()?;
    boot::configure(&config.hostname);
    disk::mount_data()?;
    boot::seal_root()?;
    boot::share_mounts()?;
    let server = brief(server, &config);
    Ok(Guest {
        config,
        signals,
        server,
    })
}

/// SIGCHLD and SIGTERM become readable instead of interrupting.
fn watch_signals() -> Result<SignalFd, GuestError> {
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    signals
        .thread_block()
        .map_err(GuestError::setup("block", "signals"))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(GuestError::setup("watch", "signals"))
}

/// What PID 1 knows of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Running { pid: Pid, since: Instant },
    Waiting { until: Instant },
}

/// How long to wait before a server is started again: not at all after one
/// that worked for a while, so that a single crash costs nothing.
fn restart_delay(lived: Duration) -> Duration {
    const LONG_ENOUGH: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(500);
    if lived >= LONG_ENOUGH {
        Duration::ZERO
    } else {
        PAUSE
    }
}

fn supervise(guest: &Guest) -> ! {
    let Guest {
        config, signals, ..
    } = guest;
    let mut server = Server::Running {
        pid: guest.server,
        since: Instant::now(),
    };
    loop {
        let timeout = match server {
            Server::Running { .. } => PollTimeout::NONE,
            Server::Waiting { until } => {
                let left = until.saturating_duration_since(Instant::now());
                // Rounded up, or the last millisecond would be spent spinning.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // An error here (EINTR) is followed by a look at everything, too.
        let _ = poll(&mut watched, timeout);
        if termination_requested(signals) {
            shutdown::power_off();
        }
        server = match reap(server) {
            Server::Waiting { until } if until <= Instant::now() => spawn_or_wait(config),
            other => other,
        };
    }
}

/// Empties the signal queue; SIGCHLD is only a reason to wake up.
fn termination_requested(signals: &SignalFd) -> bool {
    let mut requested = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        requested |= signal.ssi_signo == Signal::SIGTERM as u32;
    }
    requested
}

/// Collects every ended child: the server, and orphans of containers.
fn reap(server: Server) -> Server {
    let mut server = server;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return server,
            Ok(status) => server = after(server, status),
            Err(Errno::EINTR) => {}
            Err(_) => return server,
        }
    }
}

/// The server's state after some child has ended.
fn after(server: Server, ended: WaitStatus) -> Server {
    match server {
        Server::Running { pid, since } if ended.pid() == Some(pid) => {
            eprintln!("isolazi: the agent's server ended ({ended:?}); starting it again");
            Server::Waiting {
                until: Instant::now() + restart_delay(since.elapsed()),
            }
        }
        other => other,
    }
}

fn spawn_or_wait(config: &BootConfig) -> Server {
    match spawn(config) {
        Ok(pid) => Server::Running {
            pid,
            since: Instant::now(),
        },
        Err(error) => {
            eprintln!("isolazi: {}", one_line(&error));
            Server::Waiting {
                until: Instant::now() + restart_delay(Duration::ZERO),
            }
        }
    }
}

/// Starts a server. It gets the boot config on its standard input, where no
/// other process can look it up.
fn spawn(config: &BootConfig) -> Result<Pid, GuestError> {
    Ok(brief(launch()?, config))
}

/// Starts a server, which waits until it is told what to be.
fn launch() -> Result<Child, GuestError> {
    Command::new(EXECUTABLE)
        .arg(SERVER_ROLE)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(GuestError::setup("start", "the agent's server"))
}

/// Tells the server, which begins with that.
fn brief(mut server: Child, config: &BootConfig) -> Pid {
    if let Some(mut stdin) = server.stdin.take() {
        // One that died before reading is noticed by its exit.
        let _ = stdin.write_all(config.to_string().as_bytes());
    }
    Pid::from_raw(server.id().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(pid: i32) -> Server {
        Server::Running {
            pid: Pid::from_raw(pid),
            since: Instant::now(),
        }
    }

    #[test]
    fn only_the_servers_end_matters() {
        let orphan = WaitStatus::Exited(Pid::from_raw(8), 0);
        assert_eq!(
            std::mem::discriminant(&after(running(7), orphan)),
            std::mem::discriminant(&running(7))
        );
        let own = WaitStatus::Exited(Pid::from_raw(7), 1);
        assert!(matches!(after(running(7), own), Server::Waiting { .. }));
    }

    #[test]
    fn a_server_that_crashes_at_once_is_not_restarted_in_a_loop() {
        assert!(restart_delay(Duration::from_millis(3)) > Duration::ZERO);
        assert_eq!(restart_delay(Duration::from_secs(60)), Duration::ZERO);
    }
}
