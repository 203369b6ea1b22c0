//! A container's first process.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, sethostname, setsid};

use super::error::{At, LaunchError, Stage, to_errno};
use super::limits;
use super::mounts::{self, Taken};
use super::plan::LaunchPlan;
use super::process::Process;
use super::report::Reporter;
use super::spawn::{Birth, Launched, spawn};
use super::stdio::{Stdio, Terminals};
use super::userns::Gate;
use crate::cgroup::{Cgroup, Entrance};
use crate::sys::loopback;
use crate::sys::process::{CloseRange, close_range, join_new_session_keyring};

/// Name of the keyring that each container's processes start with.
const KEYRING: &CStr = c"isolazi";

/// The cgroup namespace is left out: it must be made inside the cgroup.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// Whoever connects the network namespace of a process that waits for it.
pub trait Connect: std::fmt::Debug {
    /// Connects that of `process`; else says in one line why it cannot.
    fn connect(&self, process: Pid) -> Result<(), String>;
}

/// The network namespace of a container's processes.
#[derive(Debug, Clone, Copy)]
pub enum NetworkNamespace<'a> {
    /// A new one, with nothing but loopback.
    New,
    /// A new one, which belongs to the container's own user namespace, and is
    /// connected once that is there.
    Connected(&'a dyn Connect),
    /// The launcher's.
    Own,
    /// One that was made for the container.
    Made(BorrowedFd<'a>),
    /// One that is another container's.
    Shared(BorrowedFd<'a>),
}

impl NetworkNamespace<'_> {
    /// Whether it is this container's own, to be set up as it wants.
    fn is_its_own(self) -> bool {
        !matches!(self, Self::Own | Self::Shared(_))
    }

    fn flags(self) -> CloneFlags {
        match self {
            Self::New | Self::Connected(_) => CloneFlags::CLONE_NEWNET,
            _ => CloneFlags::empty(),
        }
    }

    fn connect(self, process: Pid) -> Result<(), LaunchError> {
        match self {
            Self::Connected(by) => by
                .connect(process)
                .map_err(|error| LaunchError::new(Stage::Isolate, error)),
            _ => Ok(()),
        }
    }

    fn enter(self) -> Result<(), LaunchError> {
        if let Self::Made(namespace) | Self::Shared(namespace) = self {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .at(Stage::Isolate, || "join the network namespace")?;
        }
        match self.is_its_own() {
            true => loopback::bring_up().at(Stage::Isolate, || "bring the loopback interface up"),
            false => Ok(()),
        }
    }
}

/// Creates the container and starts its first process. Returns once its
/// command runs. After an error nothing of it runs; [`super::cleanup`] removes
/// its cgroup.
pub fn start(
    plan: &LaunchPlan,
    stdio: Stdio,
    network: NetworkNamespace<'_>,
) -> Result<Launched, LaunchError> {
    let process = Process::first(plan)?;
    let cgroup = Cgroup::create(&plan.cgroup);
    let mut cgroup = cgroup.map_err(|error| LaunchError::new(Stage::Cgroup, error.to_string()))?;
    let mut warnings = cgroup.take_warnings();
    let entrance = enter_ready(&cgroup)?;
    let gate = Gate::for_plan(plan)?;
    let mut namespaces = NAMESPACES | network.flags();
    if let Some(gate) = &gate {
        gate.give(&stdio);
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    let attend = |pid| {
        network.connect(pid)?;
        gate.as_ref().map_or(Ok(Vec::new()), |gate| gate.open(pid))
    };
    let birth = Birth::In(namespaces);
    let mut launched = spawn(&birth, entrance.unified(), attend, |reporter| {
        isolate(&entrance, reporter)?;
        let taken = gate.as_ref().map(Gate::pass).transpose()?;
        network.enter()?;
        become_first(plan, &cgroup, taken, process, stdio, reporter)
    })?;
    warnings.append(&mut launched.warnings);
    Ok(Launched {
        warnings,
        ..launched
    })
}

/// Opens the ways into a cgroup.
pub(super) fn enter_ready(cgroup: &Cgroup) -> Result<Entrance, LaunchError> {
    cgroup
        .entrance()
        .map_err(to_errno)
        .at(Stage::Cgroup, || "open the container's cgroup")
}

/// What every process of a container does first: it dies with its launcher,
/// keeps no descriptor, no session and no key of it, and is in the cgroup.
pub(super) fn isolate(entrance: &Entrance, reporter: &Reporter) -> Result<(), LaunchError> {
    set_pdeathsig(Signal::SIGKILL).at(Stage::Isolate, || "tie the process to its launcher")?;
    close_range(3, CloseRange::OnExec).at(Stage::Isolate, || "mark descriptors close-on-exec")?;
    entrance
        .enter_v1()
        .map_err(to_errno)
        .at(Stage::Cgroup, || "enter the container's cgroup")?;
    setsid().at(Stage::Isolate, || "start a session")?;
    match join_new_session_keyring(KEYRING) {
        // A kernel or filter without keyrings has none to protect.
        Ok(()) | Err(Errno::ENOSYS | Errno::EPERM) => {}
        Err(errno) => reporter.warning(&format!("no session keyring: {}", errno.desc())),
    }
    Ok(())
}

fn become_first(
    plan: &LaunchPlan,
    cgroup: &Cgroup,
    taken: Option<Taken>,
    process: Process<'_>,
    stdio: Stdio,
    reporter: &Reporter,
) -> Result<Infallible, LaunchError> {
    // Modes of what is made for the container are meant as they are written.
    umask(Mode::empty());
    unshare(CloneFlags::CLONE_NEWCGROUP).at(Stage::Isolate, || "make a cgroup namespace")?;
    sethostname(&plan.hostname).at(Stage::Isolate, || {
        format!("set the host name `{}`", plan.hostname)
    })?;
    limits::set_oom_score(plan.settings.oom_score_adj, reporter);
    let (root, mounted) = mounts::build(plan, cgroup, taken, reporter)?;
    mounts::enter(&root)?;
    process.execute(&root, stdio, &Terminals::Own(&mounted), reporter)
}
