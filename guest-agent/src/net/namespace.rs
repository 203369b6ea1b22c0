//! Network namespaces, by descriptor: network_namespaces(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, which lives as long as this, or anything in it.
#[derive(Debug)]
pub(crate) struct NetNamespace(OwnedFd);

impl NetNamespace {
    /// A new one, in which nothing is but a loopback interface that is down.
    pub(super) fn create() -> io::Result<Self> {
        let own = Self::own()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let new = Self::own();
        own.join()?;
        new
    }

    /// That of a process.
    pub(crate) fn of(process: Pid) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{process}/ns/net"))?.into()))
    }

    /// The calling thread's.
    pub(super) fn own() -> io::Result<Self> {
        Ok(Self(File::open(OWN)?.into()))
    }

    /// Does `what` in this namespace. Sockets made there stay in it.
    pub(super) fn within<T>(&self, what: impl FnOnce() -> T) -> io::Result<T> {
        let own = Self::own()?;
        self.join()?;
        let done = what();
        // Cannot fail for a namespace that the thread has just been in.
        own.join()?;
        Ok(done)
    }

    fn join(&self) -> io::Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(Into::into)
    }
}

impl AsFd for NetNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
