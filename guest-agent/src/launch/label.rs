//! Telling a security module how to confine the command: apparmor(7) and
//! setexeccon(3), by the files that both have below `/proc`.
//!
//! The files are the container's own, checked to be procfs's. They only take
//! what their opener writes of itself.

use std::fs::File;
use std::io::Write;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::error::{At, LaunchError, Stage, to_errno};
use super::plan::LabelPlan;
use super::resolve::Root;

/// AppArmor's own file, and the one of a kernel that has no other module.
const APPARMOR: [&str; 2] = [
    "/proc/thread-self/attr/apparmor/exec",
    "/proc/thread-self/attr/exec",
];
const SELINUX: [&str; 1] = ["/proc/thread-self/attr/exec"];

/// What is still to be written, and where.
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<(File, String)>);

impl Labels {
    /// Opens the files that `label` needs, below the root of the calling process.
    pub(super) fn open(root: &Root, label: &LabelPlan) -> Result<Self, LaunchError> {
        let mut labels = Self::default();
        if let Some(profile) = &label.apparmor {
            let file = open_any(root, &APPARMOR).at(Stage::Label, || {
                format!("use the AppArmor profile {profile}")
            })?;
            labels.0.push((file, format!("exec {profile}")));
        }
        if let Some(context) = &label.selinux {
            let file = open_any(root, &SELINUX)
                .at(Stage::Label, || format!("use the SELinux label {context}"))?;
            labels.0.push((file, context.clone()));
        }
        Ok(labels)
    }

    /// Has the next `execve` use them.
    pub(super) fn apply(self) -> Result<(), LaunchError> {
        for (mut file, text) in self.0 {
            // In one write, as the kernel wants it.
            file.write_all(text.as_bytes())
                .map_err(to_errno)
                .at(Stage::Label, || {
                    format!("have the command confined by `{text}`")
                })?;
        }
        Ok(())
    }
}

fn open_any(root: &Root, paths: &[&str]) -> Result<File, Errno> {
    let mut answer = Errno::ENOENT;
    for path in paths {
        match root.open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC) {
            Ok(file) if fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC => {
                return Ok(file.into());
            }
            Ok(_) => answer = Errno::EPERM,
            Err(errno) => answer = errno,
        }
    }
    Err(answer)
}
