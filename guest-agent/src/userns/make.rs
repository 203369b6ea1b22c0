//! Making the namespaces, from outside.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use isolazi_protocol::{ErrorCode, WireError};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{User, getegid, geteuid, pipe2};

use super::record::Namespaces;
use super::{blocked, subordinate};
use crate::sys::idmap::{self, IdMap};
use crate::sys::process::{Child, fork_into, pidfd_signal};

/// What the program of each kind of id is called.
pub(super) const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// New namespaces, which live as long as this value, or as somebody is in them.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) namespaces: Namespaces,
    /// What the user should know.
    pub(super) notes: Vec<String>,
    first: First,
}

impl Made {
    /// The process that holds them, for whoever wants a process.
    pub(super) fn holder(&self) -> nix::unistd::Pid {
        self.first.child.pid
    }
}

/// Makes a user namespace with all ids that the user may have, and a network
/// namespace in it. The caller must have one thread only.
pub(super) fn make() -> Result<Made, WireError> {
    let user = geteuid();
    let name = User::from_uid(user).ok().flatten().map(|it| it.name);
    let name = name.unwrap_or_else(|| user.to_string());
    let ids = subordinate::Subordinate::of(user);
    let why = if ids.users.is_empty() || ids.groups.is_empty() {
        let file = match ids.users.is_empty() {
            true => "/etc/subuid",
            false => "/etc/subgid",
        };
        format!(
            "{file} has no ids for {name}; its owner gives some with: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        )
    } else {
        let maps = [
            subordinate::behind(user.as_raw(), &ids.users),
            subordinate::behind(getegid().as_raw(), &ids.groups),
        ];
        let first = First::start()?;
        match assign(&first, &maps) {
            Ok(()) => return first.open(Vec::new()),
            Err(why) => why,
        }
    };
    let first = First::start()?;
    idmap::assign_own(first.child.pid).map_err(|error| refused(&error))?;
    first.open(vec![format!(
        "containers have user 0 only, to whom all files of images belong: {why}"
    )])
}

/// Has the set-user-id programs of shadow (uidmap) do it, which know what the user
/// may have.
fn assign(first: &First, maps: &[IdMap; 2]) -> Result<(), String> {
    for (helper, map) in HELPERS.into_iter().zip(maps) {
        let program = find(helper).ok_or_else(|| {
            format!("{helper} is not installed; install it (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils)")
        })?;
        let map = map.to_string();
        let ran = Command::new(program)
            .arg(first.child.pid.to_string())
            .args(map.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{helper} cannot be run: {error}"))?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            let said = said.lines().next().unwrap_or("it does not say why").trim();
            return Err(format!("{helper} failed ({said})"));
        }
    }
    Ok(())
}

/// A program of this name in the user's PATH, or where distributions have it.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = env::split_paths(&path).chain(usual);
    let mut found = folders.filter(|it| it.is_absolute());
    found.find_map(|folder| {
        let program = folder.join(name);
        program.is_file().then_some(program)
    })
}

/// The first process in the namespaces, which waits for its end.
#[derive(Debug)]
struct First {
    child: Child,
    /// It ends when this does.
    _door: OwnedFd,
}

impl First {
    fn start() -> Result<Self, WireError> {
        let (inside, outside) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| refused(&errno.into()))?;
        let mut outside = Some(outside);
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
        let child = fork_into(namespaces, None, || {
            drop(outside.take());
            let _ = File::from(inside).read(&mut [0]);
            0
        });
        match (child, outside) {
            (Ok(child), Some(door)) => Ok(Self { child, _door: door }),
            (Err(errno), _) => Err(blocked::explain(errno)),
            (Ok(_), None) => Err(refused(&Errno::EBADF.into())),
        }
    }

    fn open(self, notes: Vec<String>) -> Result<Made, WireError> {
        Ok(Made {
            namespaces: Namespaces::of(self.child.pid).map_err(|error| refused(&error))?,
            notes,
            first: self,
        })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        use std::os::fd::AsFd;
        // It may have ended by itself, and is reaped either way.
        let _ = pidfd_signal(self.child.pidfd.as_fd(), Signal::SIGKILL as i32);
        let _ = waitpid(self.child.pid, None);
    }
}

/// An error of the system's on the way.
fn refused(error: &std::io::Error) -> WireError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC) => {
            blocked::explain(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        }
        _ => WireError::new(
            ErrorCode::Internal,
            format!("cannot make a user namespace: {error}"),
        ),
    }
}
