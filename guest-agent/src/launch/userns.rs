//! A container in a user namespace of its own.
//!
//! Its first process has no power over the machine's files from birth. So what it is to
//! have of them is made outside and handed in, as mounts that are attached nowhere yet,
//! while the process waits at a gate.
//!
//! ```text
//!  launcher                                 first process
//!   ├─ clone3(user, mount, …) ──────────────► waits
//!   ├─ uid_map, gid_map
//!   ├─ a process in mounts of its own:
//!   │    layers and changes, owners mapped ─► overlay
//!   ├─ /etc/hosts …, binds, volumes, owners mapped
//!   └─ all of them ─────────────────────────► becomes root, attaches them
//! ```
//!
//! On disk everything has the container's ids: containers with different ids share
//! layers and volumes, and whoever looks into an ended one sees what it saw. Only where
//! the launcher may map no mount, in a user namespace, is it otherwise: see
//! [`StoredIds`](super::plan::StoredIds).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::error::{At, LaunchError, Stage, to_errno};
use super::mounts::{self, Taken};
use super::plan::{LaunchPlan, UsernsPlan};
use super::stdio::Stdio;
use crate::sys::channel;
use crate::sys::idmap;
use crate::sys::process::{set_group, set_groups, set_user};

/// Where the first process waits for what is made for it.
pub(super) struct Gate<'a> {
    plan: &'a LaunchPlan,
    ids: &'a UsernsPlan,
    outside: OwnedFd,
    inside: OwnedFd,
}

impl<'a> Gate<'a> {
    /// The gate of a container that needs one.
    pub(super) fn for_plan(plan: &'a LaunchPlan) -> Result<Option<Self>, LaunchError> {
        let Some(ids) = &plan.settings.userns else {
            return Ok(None);
        };
        let (outside, inside) = channel::pair().at(Stage::Clone, || "make a channel")?;
        Ok(Some(Self {
            plan,
            ids,
            outside,
            inside,
        }))
    }

    /// Lets the container's root have the standard streams.
    pub(super) fn give(&self, stdio: &Stdio) {
        stdio.give_to(self.ids.root());
    }

    /// The launcher's part: makes everything, and lets the process `pid` go on.
    /// Returns what the user should know.
    pub(super) fn open(&self, pid: Pid) -> Result<Vec<String>, LaunchError> {
        let (users, groups) = self.ids.maps();
        idmap::assign(pid, &users, &groups)
            .map_err(to_errno)
            .at(Stage::Clone, || "give the user namespace its ids")?;
        let namespace = File::open(format!("/proc/{pid}/ns/user"))
            .map_err(to_errno)
            .at(Stage::Clone, || "open the container's user namespace")?;
        let (taken, warnings) = mounts::take(self.plan, self.ids, namespace.as_fd())?;
        let send = || {
            for mount in taken.mounts() {
                channel::send(self.outside.as_fd(), &[0], Some(mount))?;
            }
            Ok(())
        };
        send().at(Stage::Root, || "hand the container its mounts")?;
        Ok(warnings)
    }

    /// The process's part: waits for what is made, and becomes the container's root.
    pub(super) fn pass(&self) -> Result<Taken, LaunchError> {
        let receive = || {
            let received = channel::receive(self.inside.as_fd(), &mut [0])?;
            received.descriptor.ok_or(Errno::EBADMSG)
        };
        let receive = || receive().at(Stage::Root, || "receive the container's mounts");
        let taken = Taken::receive(self.plan, receive)?;
        become_root().at(Stage::Isolate, || "become the container's root")?;
        Ok(taken)
    }
}

/// Becomes root of the user namespace that the caller is in, with no other groups.
pub(super) fn become_root() -> Result<(), Errno> {
    match set_groups(&[]) {
        // As in a namespace above this one.
        Err(Errno::EPERM) if !idmap::may_set_groups() => {}
        set => set?,
    }
    set_group(0)?;
    set_user(0)?;
    // A change of the user has cleared it.
    set_pdeathsig(Signal::SIGKILL)
}
