//! What can go wrong between a plan and a running process, by the stage at
//! which it did, and how that reads to a user and to a program.

use std::fmt;
use std::io;

use nix::errno::Errno;

use isolazi_protocol::ErrorCode;

/// The stages of a launch, in their order. A process takes them one after the
/// other; an `exec` skips those that the container has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// The plan itself: a string that no system call takes.
    Plan = 1,
    /// Creating the control group.
    Cgroup,
    /// Creating the process in its namespaces.
    Clone,
    /// Joining the namespaces of a running container.
    Join,
    /// Session, keyring, host name, loopback.
    Isolate,
    /// Mounting the overlay.
    Root,
    /// `/proc`, `/dev`, `/sys` and what is below them.
    System,
    /// What the user asked to have mounted, and the files in `/etc`.
    Binds,
    /// Hiding and protecting what the kernel shows.
    Masks,
    /// Kernel parameters that the user asked for.
    Settings,
    /// Making the overlay the root.
    Pivot,
    /// Looking the user up in the container's own files.
    User,
    /// Entering the working directory.
    WorkingDir,
    /// Standard streams and the terminal.
    Stdio,
    /// Dropping privileges.
    Privileges,
    /// Telling security modules how to confine the command.
    Label,
    /// Installing the system-call filter.
    Seccomp,
    /// `execve`.
    Exec,
}

impl Stage {
    const ALL: [Self; 18] = [
        Self::Plan,
        Self::Cgroup,
        Self::Clone,
        Self::Join,
        Self::Isolate,
        Self::Root,
        Self::System,
        Self::Binds,
        Self::Masks,
        Self::Settings,
        Self::Pivot,
        Self::User,
        Self::WorkingDir,
        Self::Stdio,
        Self::Privileges,
        Self::Label,
        Self::Seccomp,
        Self::Exec,
    ];

    /// The stage of a number that crossed the channel.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u8 == byte)
    }
}

/// A launch that failed. Nothing of the container runs then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError {
    /// At which stage.
    pub stage: Stage,
    /// What the kernel said, where it was the kernel.
    pub errno: Option<Errno>,
    /// What could not be done, to what: `cannot mount /x`.
    pub detail: String,
}

impl LaunchError {
    /// A failure that is not the kernel's.
    pub(super) fn new(stage: Stage, detail: impl Into<String>) -> Self {
        Self {
            stage,
            errno: None,
            detail: detail.into(),
        }
    }

    /// The exit code that Docker's command line gives for it: 127 for a
    /// command that is not there, 126 for one that cannot be executed, 125
    /// for everything else.
    pub fn exit_code(&self) -> i32 {
        match self.code() {
            ErrorCode::CommandNotFound => 127,
            ErrorCode::NotExecutable => 126,
            _ => 125,
        }
    }

    /// Its kind on the wire.
    pub fn code(&self) -> ErrorCode {
        match (self.stage, self.errno) {
            (Stage::Exec, Some(Errno::ENOENT | Errno::ENOTDIR)) => ErrorCode::CommandNotFound,
            (Stage::Exec, _) => ErrorCode::NotExecutable,
            (_, Some(Errno::ENOSPC | Errno::EDQUOT)) if self.stage != Stage::Clone => {
                ErrorCode::StorageFull
            }
            (Stage::Plan | Stage::User | Stage::WorkingDir | Stage::Binds | Stage::Settings, _) => {
                ErrorCode::InvalidArgument
            }
            (_, Some(Errno::EPERM | Errno::EACCES)) => ErrorCode::Permission,
            (_, Some(Errno::ENOSYS | Errno::ENODEV)) => ErrorCode::Unsupported,
            (Stage::Join, Some(Errno::ESRCH)) => ErrorCode::Conflict,
            _ => ErrorCode::Internal,
        }
    }

    /// What the user can do about it.
    fn advice(&self) -> Option<&'static str> {
        use Stage::{
            Binds, Clone, Exec, Isolate, Join, Label, Pivot, Privileges, Root, System, WorkingDir,
        };
        Some(match (self.stage, self.errno?) {
            (Exec, Errno::ENOENT | Errno::ENOTDIR) => {
                "check its name, and the PATH that the image sets"
            }
            (Exec, Errno::EACCES) => {
                "it must be a file with execute permission for the container's user, and a security label, if it has one, must allow it"
            }
            (Exec, Errno::ENOEXEC) => {
                "it is for another architecture, or a script without a `#!` line"
            }
            (Clone | Join | Root | System, Errno::EPERM | Errno::EACCES) => {
                "root privileges are needed: use sudo, or run it in a VM with --vm"
            }
            (Clone, Errno::ENOSPC) => "raise the limits in /proc/sys/user",
            (Clone, Errno::EAGAIN) => "the limit of processes is reached: stop some",
            (Clone, Errno::EDEADLK) => "the caller has more than one thread",
            (Clone | Join, Errno::ESRCH | Errno::ENOMEM) if self.stage == Join => {
                "the container has ended"
            }
            (Pivot, Errno::EINVAL) => {
                "the root of this system is an initramfs: switch to another root first"
            }
            (Root, Errno::EINVAL | Errno::ENODEV) => {
                "overlayfs is needed, and a file system below it that supports it, such as ext4"
            }
            (Isolate, Errno::EINVAL) => "a host name has at most 64 characters",
            (Label, Errno::EINVAL) => {
                "the machine's policy has no such label: check user, role, type and level"
            }
            (Privileges, Errno::EINVAL) => {
                "the user namespace does not have that user or group: map it with --uid-map and --gid-map, or have more ids in /etc/subuid and /etc/subgid"
            }
            (Binds | WorkingDir, Errno::ELOOP) => {
                "links such as /proc/self/fd/3, and circles of links, are not followed"
            }
            (Binds, Errno::ENOENT) => "check that it exists",
            (System, Errno::ELOOP | Errno::ENOTDIR) => {
                "the image has a symbolic link or a file where a folder must be"
            }
            (_, Errno::ENOSPC | Errno::EDQUOT) => "free some space where isolazi keeps its data",
            (_, Errno::ENOSYS) => "Linux 5.12 or newer is needed",
            _ => return None,
        })
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", errno.desc())?;
        }
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LaunchError {}

/// The system's number for an error, where it has one.
pub(super) fn to_errno(error: io::Error) -> Errno {
    Errno::try_from(error).unwrap_or(Errno::EIO)
}

/// Says of a system call's failure at which stage it happened and to what.
pub(super) trait At<T> {
    /// `doing` completes the sentence "cannot …".
    fn at<D: fmt::Display>(self, stage: Stage, doing: impl FnOnce() -> D)
    -> Result<T, LaunchError>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at<D: fmt::Display>(
        self,
        stage: Stage,
        doing: impl FnOnce() -> D,
    ) -> Result<T, LaunchError> {
        self.map_err(|errno| LaunchError {
            stage,
            errno: Some(errno),
            detail: format!("cannot {}", doing()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_dockers() {
        let exit_code = |stage, errno: Errno| {
            Err::<(), _>(errno)
                .at(stage, || "x")
                .unwrap_err()
                .exit_code()
        };
        assert_eq!(exit_code(Stage::Exec, Errno::ENOENT), 127);
        assert_eq!(exit_code(Stage::Exec, Errno::EACCES), 126);
        assert_eq!(exit_code(Stage::Exec, Errno::ENOEXEC), 126);
        assert_eq!(exit_code(Stage::Root, Errno::ENOENT), 125);
    }

    #[test]
    fn stages_survive_the_channel() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_byte(stage as u8), Some(stage));
        }
        assert_eq!(Stage::from_byte(0), None);
    }

    #[test]
    fn an_error_is_one_line_that_names_the_thing_and_the_remedy() {
        let error = Err::<(), _>(Errno::ENOENT)
            .at(Stage::Exec, || "execute `nope`")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot execute `nope`: No such file or directory \
             (check its name, and the PATH that the image sets)"
        );
    }
}
