//! What a backend contributes to a supervised machine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture};
use isolazi_protocol::{BindSource, Finding, Request};

use super::ask_agent;
use super::console::Console;
use super::door::Door;
use super::layout::Layout;
use super::process::Process;
use super::record::{Record, ShareRecord};
use super::wire::Ready;
use crate::machine::{MachineError, Outside};
use crate::paths::Paths;

/// A program that runs guests. It has no state of its own: what is needed after a
/// start is in the record, for whichever supervisor comes next.
pub(crate) trait Hypervisor: Send + Sync {
    /// Starts a guest, and comes back as soon as its agent may be waited for.
    fn start<'a>(
        &'a self,
        paths: &'a Paths,
        layout: &'a Layout,
    ) -> LocalBoxFuture<'a, Result<Started, MachineError>>;

    /// The folders that the recorded guest shares with the host.
    fn shares(
        &self,
        paths: &Paths,
        layout: &Layout,
        record: Record,
    ) -> Result<Box<dyn Shares>, MachineError>;

    /// Keeps the console of a guest that an earlier supervisor has started, where that
    /// is not the hypervisor's work.
    fn follow_console(&self, _layout: &Layout) -> Result<(), MachineError> {
        Ok(())
    }

    /// Takes from this process, which looks after the guest that runs, what it needs no
    /// more.
    fn confine_supervisor(&self) {}

    /// Shuts the guest down from within. What does not end in time loses its power.
    fn shut_down<'a>(&'a self, _layout: &'a Layout, ready: &'a Ready) -> LocalBoxFuture<'a, ()> {
        async move { drop(ask_agent(ready, &Request::Shutdown).await) }.boxed_local()
    }

    /// Cuts the guest's power, where that takes more than to kill the hypervisor.
    fn cut_power<'a>(&'a self, _layout: &'a Layout) -> LocalBoxFuture<'a, ()> {
        std::future::ready(()).boxed_local()
    }

    /// Removes what it keeps of the guest outside the machine's folder; tells whether
    /// there was anything. The guest does not run.
    fn forget<'a>(&'a self, _layout: &'a Layout) -> BoxFuture<'a, Result<bool, MachineError>> {
        std::future::ready(Ok(false)).boxed()
    }

    /// What this host has for it and what it lacks. Starts nothing.
    fn examine<'a>(&'a self, _layout: &'a Layout) -> BoxFuture<'a, Vec<Finding>> {
        std::future::ready(Vec::new()).boxed()
    }

    /// Where it is kept what the guest's console prints.
    fn console_log(&self, layout: &Layout) -> Result<PathBuf, MachineError> {
        Ok(layout.console_log())
    }

    /// Sockets that it leaves behind.
    fn remains(&self, layout: &Layout) -> Vec<PathBuf>;

    /// What is beyond the guest's networks.
    fn outside(&self) -> Outside;
}

/// A guest that comes up.
pub(crate) struct Started {
    /// Ends with the guest, and the guest with it.
    pub(crate) process: Process,
    /// What the guest's vsock takes besides.
    pub(crate) helper: Option<Process>,
    /// Leads to the agent.
    pub(crate) door: Door,
    /// What the agent wants to be shown.
    pub(crate) token: [u8; 32],
    /// What executes the guest.
    pub(crate) accelerator: String,
    pub(crate) console: Console,
    /// When the hypervisor was started.
    pub(crate) since: Instant,
    /// Folders that are shared from the start.
    pub(crate) shares: Vec<ShareRecord>,
}

/// The folders that a guest shares with the host.
pub(crate) trait Shares {
    /// Makes `path`, which is canonical, visible in the guest; says where.
    fn share<'a>(
        &'a mut self,
        path: &'a Path,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<BindSource, MachineError>>;

    /// Those in use.
    fn folders(&self) -> Vec<PathBuf>;
}
