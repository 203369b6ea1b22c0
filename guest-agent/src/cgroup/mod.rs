//! A container's control group: cgroups(7).
//!
//! On a machine with the unified hierarchy (v2; the guest is one) it is one
//! folder, and the process is created inside it. On an older machine (v1, or
//! both: "hybrid") it is a folder in each hierarchy that limits something, and
//! the process enters them all before it does anything else.
//!
//! ```text
//!  v2      /sys/fs/cgroup/<base>/isolazi/<id>
//!  v1      /sys/fs/cgroup/{pids,memory,…}/<base>/isolazi/<id>
//!  hybrid  as v1, and /sys/fs/cgroup/unified/<base>/isolazi/<id>
//! ```
//!
//! `<base>` is the folder that our own cgroup lies in: containers stand beside
//! it, under whatever limits it is under, and a cgroup v2 with processes of
//! its own (ours) could not have limited ones below it.
//!
//! What a machine lacks for a limit of ours is a warning, not a failure: a
//! container without it is better than none, as long as its user knows. A limit
//! that the user asked for is an error.

pub mod devices;
mod error;
mod freeze;
mod legacy;
mod limits;
mod place;
mod rates;
mod remove;
mod resources;
mod setting;
pub mod usage;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::launch::plan::CgroupPlan;

pub use error::LimitError;
pub use freeze::freeze;
pub(crate) use place::{available, folders_in};
pub use remove::{RemoveError, remove};
pub(crate) use resources::cpu_list;
pub use resources::{check, has_killed, update};

/// A container's folder in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name of the hierarchy's folder: `memory`, `cpu,cpuacct`, `unified`.
    pub name: String,
    /// The container's folder.
    pub folder: PathBuf,
    /// Controllers of a v1 hierarchy; empty for the unified one.
    controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether it is cgroup v2.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|it| it == controller)
    }
}

/// A container's control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Vec<Hierarchy>,
    warnings: Vec<String>,
}

impl Cgroup {
    /// Creates the folders and sets the limits.
    ///
    /// # Errors
    /// When a limit that somebody asked for cannot be set.
    pub fn create(plan: &CgroupPlan) -> Result<Self, LimitError> {
        let mut warnings = Vec::from_iter(plan.unscoped.clone());
        let mut hierarchies = place::own_hierarchies(&plan.path);
        // That of v1 refuses processes until it is told which processors to use.
        hierarchies.retain(|it| !it.controls("cpuset") || resources::needs_cpuset(&plan.limits));
        hierarchies.retain(|hierarchy| match place::make_folder(&hierarchy.folder) {
            Ok(()) => true,
            Err(error) => {
                warnings.push(format!(
                    "cannot create the cgroup {}: {error}",
                    hierarchy.folder.display()
                ));
                false
            }
        });
        limits::set(&hierarchies, plan, &mut warnings)?;
        resources::set(&hierarchies, &plan.limits, &mut warnings)?;
        Ok(Self {
            hierarchies,
            warnings,
        })
    }

    /// The group of a process that is in one.
    pub fn of_process(pid: nix::unistd::Pid) -> Self {
        Self {
            hierarchies: place::hierarchies_of(pid),
            warnings: Vec::new(),
        }
    }

    /// The container's folders: the unified one last, where there is one.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// What could not be set up, one line each.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// What a process needs to enter the group.
    pub fn entrance(&self) -> io::Result<Entrance> {
        let mut entrance = Entrance::default();
        for hierarchy in &self.hierarchies {
            let mut options = OpenOptions::new();
            if hierarchy.is_unified() {
                let folder = options
                    .read(true)
                    .custom_flags(libc::O_DIRECTORY)
                    .open(&hierarchy.folder)?;
                entrance.unified = Some(folder);
            } else {
                let tasks = options.write(true).open(hierarchy.folder.join("tasks"))?;
                entrance.tasks.push(tasks);
            }
        }
        Ok(entrance)
    }
}

/// The ways into a group, open.
#[derive(Debug, Default)]
pub struct Entrance {
    unified: Option<File>,
    tasks: Vec<File>,
}

impl Entrance {
    /// The unified hierarchy's folder, for `CLONE_INTO_CGROUP`.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process, which has one thread, into the v1 groups.
    ///
    /// A thread that moves itself by `0` in `tasks` does not make the kernel
    /// wait for every other processor, as moving a process does.
    pub fn enter_v1(&self) -> io::Result<()> {
        self.tasks
            .iter()
            .try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}
