//! The standard streams of a container's process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchown};

use isolazi_protocol::WindowSize;

use super::error::{At, LaunchError, Stage};
use super::mounts::{Mounted, open_console_of};
use super::report::Reporter;
use super::resolve::Root;
use crate::sys::process::{duplicate_above_stdio, install_fd};
use crate::sys::tty::{Pty, make_controlling, set_size};

/// What a process gets as its standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// These; the launcher's copies are closed.
    Pipes {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A new terminal of the container's, of this size, for all three.
    Terminal(WindowSize),
}

impl Stdio {
    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Makes pipes and sockets those of a user of the machine, who is root in the
    /// container and may make them somebody else's there.
    pub(super) fn give_to(&self, (user, group): (u32, u32)) {
        if let Self::Pipes {
            stdin,
            stdout,
            stderr,
        } = self
        {
            for stream in [stdin, stdout, stderr] {
                if is_connection(stream.as_fd()) {
                    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
                    let _ = fchown(stream, Some(user), Some(group));
                }
            }
        }
    }
}

/// Where a new terminal comes from.
pub(super) enum Terminals<'a> {
    /// The file systems just made, where it also becomes the console.
    Own(&'a Mounted),
    /// Those of a running container.
    Running,
}

/// Makes `stdio` descriptors 0, 1 and 2, owned by `uid`.
pub(super) fn install(
    stdio: Stdio,
    terminals: &Terminals<'_>,
    root: &Root,
    uid: u32,
    reporter: &Reporter,
) -> Result<(), LaunchError> {
    match stdio {
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => install_all([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], uid)
            .at(Stage::Stdio, || "set up the standard streams"),
        Stdio::Terminal(size) => {
            let terminal = open(terminals, root).at(Stage::Stdio, || "open a terminal")?;
            install_terminal(&terminal, size, uid, reporter)
                .at(Stage::Stdio, || "set up the terminal")
        }
    }
}

fn open(terminals: &Terminals<'_>, root: &Root) -> Result<Pty, Errno> {
    match terminals {
        Terminals::Running => open_console_of(root),
        Terminals::Own(mounted) => {
            let terminal = mounted.terminals.open_terminal()?;
            mounted
                .terminals
                .show_as_console(&terminal, mounted.dev.as_fd())?;
            Ok(terminal)
        }
    }
}

fn install_terminal(
    terminal: &Pty,
    size: WindowSize,
    uid: u32,
    reporter: &Reporter,
) -> Result<(), Errno> {
    let slave = terminal.slave.as_fd();
    set_size(slave, size.rows, size.columns)?;
    fchown(slave, Some(Uid::from_raw(uid)), None)?;
    make_controlling(slave)?;
    reporter.hand_over(terminal.master.as_fd())?;
    install_all([slave; 3], uid)
}

fn install_all(streams: [BorrowedFd<'_>; 3], uid: u32) -> Result<(), Errno> {
    // Copies first: a stream may lie where another is about to go.
    let mut copies = Vec::with_capacity(streams.len());
    for stream in streams {
        give(stream, uid);
        copies.push(duplicate_above_stdio(stream)?);
    }
    copies
        .iter()
        .zip(0..)
        .try_for_each(|(copy, number)| install_fd(copy.as_fd(), number))
}

/// Makes a pipe or socket the user's, who could not open `/dev/stdout`
/// otherwise. Where it cannot be given away, writing to it works all the same.
fn give(stream: BorrowedFd<'_>, uid: u32) {
    if uid != 0 && is_connection(stream) {
        let _ = fchown(stream, Some(Uid::from_raw(uid)), None);
    }
}

/// Whether it is a pipe or a socket.
fn is_connection(stream: BorrowedFd<'_>) -> bool {
    let kind = fstat(stream).map_or(0, |status| status.st_mode & libc::S_IFMT);
    kind == libc::S_IFIFO || kind == libc::S_IFSOCK
}
