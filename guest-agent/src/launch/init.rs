//! `run --init`: a small init as the container's first process.
//!
//! ```text
//!  first process ── clone ──► the command (a failure to run it is reported as ever)
//!       └ execveat(init) ◄── signals, orphans
//! ```
//!
//! The program is one of our own (`init/main.rs`), of some kilobyte and without
//! any library. It is run from sealed memory: there is no file of it that a
//! container could overwrite, and none has to be shown in its root.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, execveat, getpid, setpgid, tcsetpgrp};

use super::error::{At, LaunchError, Stage, to_errno};
use crate::sys::process::{duplicate_above, fork_into, move_fd};

#[cfg(embedded_init)]
const PROGRAM: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/init")));
#[cfg(not(embedded_init))]
const PROGRAM: Option<&[u8]> = None;

/// Whether this build has an init.
pub(crate) fn is_available() -> bool {
    PROGRAM.is_some()
}

/// The program, ready to be run.
#[derive(Debug)]
pub(super) struct Init(OwnedFd);

impl Init {
    /// Puts the program into sealed memory.
    pub(super) fn load() -> Result<Self, LaunchError> {
        let Some(program) = PROGRAM else {
            return Err(LaunchError::new(
                Stage::Plan,
                "this build of isolazi has no init program; leave --init out",
            ));
        };
        sealed(program)
            .map(Self)
            .map_err(to_errno)
            .at(Stage::Plan, || "prepare the init program")
    }

    /// A copy above the numbers that the last steps of a launch hand out.
    pub(super) fn above_fixed(&self) -> Result<Self, Errno> {
        let copy = duplicate_above(self.0.as_fd(), 5)?;
        Ok(Self(copy))
    }

    /// The same as descriptor `number`.
    pub(super) fn moved_to(&self, number: i32) -> Result<Self, Errno> {
        move_fd(self.0.as_fd(), number).map(Self)
    }

    /// Makes the calling process the init, and its child `command`, which does
    /// not return. `before` is what the init does last before it is one.
    pub(super) fn run(
        &self,
        command: impl FnOnce() -> Infallible,
        before: impl FnOnce() -> Result<(), LaunchError>,
    ) -> Result<Infallible, LaunchError> {
        let child = fork_into(CloneFlags::empty(), None, || {
            lead_a_group();
            match command() {}
        })
        .at(Stage::Clone, || "create the init's child")?;
        // What comes before the init asks for signals waits for it.
        SigSet::all()
            .thread_set_mask()
            .at(Stage::Privileges, || "block signals")?;
        before()?;
        self.execute(child.pid).at(Stage::Exec, || "run the init")
    }

    fn execute(&self, child: Pid) -> Result<Infallible, Errno> {
        let number = CString::new(child.to_string()).map_err(|_| Errno::EINVAL)?;
        let arguments = [c"isolazi-init", number.as_c_str()];
        let environment: [&std::ffi::CStr; 0] = [];
        execveat(
            &self.0,
            c"",
            &arguments,
            &environment,
            AtFlags::AT_EMPTY_PATH,
        )
    }
}

/// Gives the command a process group of its own, in the foreground of its
/// terminal, if it has one: what is typed there then reaches it alone, and not
/// a second time through the init.
fn lead_a_group() {
    let own = getpid();
    // Cannot fail for a child that has just been made.
    let _ = setpgid(own, own);
    // From the background this would stop the process (tcsetpgrp(3)).
    let stop = SigSet::from(Signal::SIGTTOU);
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), None);
    // Fails where standard input is no terminal.
    let _ = tcsetpgrp(io::stdin(), own);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), None);
}

fn sealed(program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // A machine may want to be told which of these are programs
    // (vm.memfd_noexec); before Linux 6.3 there was no way to say so.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memory = match memfd_create(c"isolazi-init", flags | exec) {
        Err(Errno::EINVAL) => memfd_create(c"isolazi-init", flags),
        other => other,
    }?;
    let mut file = File::from(memory);
    file.write_all(program)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_cannot_be_changed() {
        let program = sealed(b"program").unwrap();
        let mut file = File::from(program);
        assert_eq!(
            file.write_all(b"x").map_err(|error| error.kind()),
            Err(io::ErrorKind::PermissionDenied)
        );
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn the_program_is_small() {
        assert!(PROGRAM.is_none_or(|program| program.len() < 16 << 10));
    }
}
