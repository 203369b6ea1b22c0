//! A further process in a running container.

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::unistd::Pid;

use isolazi_protocol::ExecSpec;

use super::error::{At, LaunchError, Stage};
use super::limits;
use super::plan::LaunchPlan;
use super::process::Process;
use super::resolve::Root;
use super::spawn::{Birth, Launched, spawn};
use super::start::{enter_ready, isolate};
use super::stdio::{Stdio, Terminals};
use super::userns::become_root;
use crate::cgroup::Cgroup;
use crate::sys::process::pidfd_signal;

/// All but the PID namespace, which a process can only be born into.
const JOINED: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Starts `spec` in the container whose first process is `init`, and returns
/// once its command runs. The caller becomes its parent.
///
/// The caller's memory is not to be read from inside, so it stops being
/// dumpable (prctl(2), `PR_SET_DUMPABLE`), and stays so.
pub fn exec(
    plan: &LaunchPlan,
    spec: &ExecSpec,
    init: Pid,
    init_pidfd: BorrowedFd<'_>,
    stdio: Stdio,
) -> Result<Launched, LaunchError> {
    let process = Process::further(plan, spec)?;
    let cgroup = Cgroup::of_process(init);
    // What was read is init's only if it had not ended by then.
    pidfd_signal(init_pidfd, 0).at(Stage::Join, || "find the container's first process")?;
    let entrance = enter_ready(&cgroup)?;
    set_dumpable(false).at(Stage::Join, || "protect the launcher's memory")?;
    let userns = plan.settings.userns.as_ref();
    let joined = match userns {
        Some(ids) => {
            stdio.give_to(ids.root());
            JOINED | CloneFlags::CLONE_NEWUSER
        }
        None => JOINED,
    };
    let birth = Birth::Beside(init_pidfd);
    let nothing = |_| Ok(Vec::new());
    spawn(&birth, entrance.unified(), nothing, |reporter| {
        isolate(&entrance, reporter)?;
        limits::set_oom_score(plan.settings.oom_score_adj, reporter);
        setns(init_pidfd, joined).at(Stage::Join, || "join the container's namespaces")?;
        if userns.is_some() {
            become_root().at(Stage::Join, || "become the container's root")?;
        }
        let root = Root::own().at(Stage::Join, || "open the container's root")?;
        process.execute(&root, stdio, &Terminals::Running, reporter)
    })
}
