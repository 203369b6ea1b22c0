//! The process that binds ports for containers, in the host's network namespace: all
//! that it does there is what the user may do anyway. It ends when nobody is left in
//! the user's namespaces.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use isolazi_protocol::SeccompProfile;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{geteuid, setsid};

use super::folder;
use super::record::{Identity, Process, Record};
use crate::net::broker;
use crate::seccomp::{self, Granted};
use crate::sys::caps::CapabilitySet;
use crate::sys::process::{CloseRange, close_range, pidfd_open};
use crate::sys::{channel, filter};

/// How it is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-ports";

/// Its socket's name in the folder of the namespaces.
const SOCKET: &str = "ports.sock";

/// A caller may leave an answer unread so long, with many before it.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many may have called at once.
const MOST_CALLERS: usize = 256;

/// The system calls that it takes to bind, to hand over, and to see who is left: none
/// that connects or executes anything.
const CALLS: &str = include_str!("broker.json");

/// Where the broker of the caller's namespaces listens, if they are those of the data
/// root: else ports of the caller's own network namespace are what is wanted.
pub(crate) fn broker_of(root: &Path) -> Option<PathBuf> {
    let record = Record::read(root)?;
    let is_inside = Identity::of("self") == Some(record.namespaces);
    is_inside.then(|| folder(root).join(SOCKET))
}

/// Starts one, which takes the place of any before. To be called from outside, while
/// somebody is in the namespaces.
pub(super) fn start(root: &Path, namespaces: Identity) -> io::Result<Process> {
    let broker = Command::new("/proc/self/exe")
        .arg0(ARGV0)
        .arg(root)
        .arg(serde_json::to_string(&namespaces)?)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(listen(root)?))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let gone = || io::ErrorKind::NotFound.into();
    Process::of(broker.id().cast_signed()).ok_or_else(gone)
}

/// Listens before the broker is there, so that nobody calls too early.
fn listen(root: &Path) -> io::Result<OwnedFd> {
    // By descriptor, as a socket's address has 108 bytes (unix(7)).
    let folder = File::open(folder(root))?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = channel::listen_at(Path::new(&path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves on standard input. The first argument, the data root, is for whoever looks.
pub(super) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let text = words.last().unwrap_or_default();
    let namespaces: Option<Identity> = serde_json::from_slice(text.as_encoded_bytes()).ok();
    // It outlives whatever it was started from.
    let _ = setsid();
    let _ = close_range(3, CloseRange::Now);
    let (Some(namespaces), Ok(())) = (namespaces, confine()) else {
        return ExitCode::FAILURE;
    };
    let mut broker = Broker::default();
    while let Some(other) = namespaces.somebody(&[]) {
        // Gone already, or to be served beside.
        if let Ok(process) = pidfd_open(other)
            && broker.serve_until_end(process.as_fd()).is_err()
        {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Leaves the process with what it needs.
fn confine() -> io::Result<()> {
    set_no_new_privs()?;
    let profile = SeccompProfile::File {
        name: ARGV0.to_owned(),
        text: CALLS.to_owned(),
    };
    let granted = Granted::here(CapabilitySet::EMPTY);
    let programs = seccomp::programs(&profile, &granted).map_err(io::Error::other)?;
    for program in programs {
        filter::install(&program.0)?;
    }
    Ok(())
}

/// Those who have called and not hung up, the oldest first.
#[derive(Debug, Default)]
struct Broker(Vec<OwnedFd>);

impl Broker {
    fn serve_until_end(&mut self, process: BorrowedFd<'_>) -> io::Result<()> {
        let stdin = io::stdin();
        let listener = stdin.as_fd();
        loop {
            let all = [process, listener].into_iter();
            let all = all.chain(self.0.iter().map(OwnedFd::as_fd));
            let mut all: Vec<_> = all.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
            match poll(&mut all, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => polled?,
            };
            let mut ready = all.into_iter().map(|it| it.any().unwrap_or_default());
            let [ended, called] = [(); 2].map(|()| ready.next().unwrap_or_default());
            let ready: Vec<bool> = ready.collect();
            self.answer(&ready);
            if called {
                self.admit(channel::accept(listener));
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Answers those who are `ready`, and forgets who has hung up or makes no sense.
    fn answer(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        self.0.retain(|caller| {
            let is_ready = ready.next().is_some_and(|it| *it);
            !is_ready || broker::answer(caller.as_fd()).is_ok_and(|more| more)
        });
    }

    /// What is the user's to do is for the user only: other ids of containers are others.
    fn admit(&mut self, caller: Result<OwnedFd, Errno>) {
        let is_users = |it: &OwnedFd| channel::peer(it.as_fd()) == Ok(geteuid());
        let Some(caller) = caller.ok().filter(is_users) else {
            return;
        };
        // Who says something is heard at once, and has to listen as well.
        let _ = channel::set_patience(caller.as_fd(), PATIENCE);
        // Whoever does not want anything so long has to call again.
        if self.0.len() >= MOST_CALLERS {
            self.0.remove(0);
        }
        self.0.push(caller);
    }
}
