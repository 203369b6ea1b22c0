//! What a container's process tells its launcher before `execve`.
//!
//! ```text
//!  child ── Warning* ── Handed? ── Ready ── (execve closes the channel)
//!        └─ Failed, at any point
//! ```
//!
//! The channel is close-on-exec: its end after `Ready` means that `execve`
//! succeeded, and its end before means that the child died on the way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::error::{LaunchError, Stage};
use crate::sys::channel;
use crate::sys::process::move_fd;

/// Longest text of a message, in bytes.
const MAX_TEXT: usize = 2048;
const WARNING: u8 = 1;
const HANDED: u8 = 2;
const READY: u8 = 3;
const FAILED: u8 = 4;
/// Kind, stage and errno come before the text.
const HEADER: usize = 6;

/// The child's end.
#[derive(Debug)]
pub(super) struct Reporter(OwnedFd);

/// The launcher's end.
#[derive(Debug)]
pub(super) struct Reports(OwnedFd);

/// What came of a launch that reached `execve`.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What it was to hand over: the master of its terminal.
    pub(super) handed: Option<OwnedFd>,
    /// One line each.
    pub(super) warnings: Vec<String>,
}

/// Both ends of a new channel.
pub(super) fn channel() -> Result<(Reporter, Reports), Errno> {
    let (child, launcher) = channel::pair()?;
    Ok((Reporter(child), Reports(launcher)))
}

impl Reporter {
    /// Something the user should know, which does not stop the launch.
    pub(super) fn warning(&self, text: &str) {
        // A launcher that is gone takes this process with it in any case.
        let _ = self.send(WARNING, 0, 0, text, None);
    }

    /// Hands a descriptor over: the terminal's master, say.
    pub(super) fn hand_over(&self, descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
        self.send(HANDED, 0, 0, "", Some(descriptor))
    }

    /// Nothing but `execve` is left. Fails with `EPIPE` where the launcher is
    /// gone: one that died before the parent-death signal was set.
    pub(super) fn ready(&self) -> Result<(), Errno> {
        self.send(READY, 0, 0, "", None)
    }

    /// The launch failed.
    pub(super) fn failed(&self, error: &LaunchError) {
        let errno = error.errno.map_or(0, |errno| errno as i32);
        // As above: nobody is left to tell.
        let _ = self.send(FAILED, error.stage as u8, errno, &error.detail, None);
    }

    /// The same channel as descriptor `number`, close-on-exec; what that was
    /// before is closed.
    pub(super) fn moved_to(&self, number: RawFd) -> Result<Self, Errno> {
        move_fd(self.0.as_fd(), number).map(Self)
    }

    fn send(
        &self,
        kind: u8,
        stage: u8,
        errno: i32,
        text: &str,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
        let mut message = Vec::with_capacity(HEADER + text.len());
        message.extend([kind, stage]);
        message.extend(errno.to_ne_bytes());
        message.extend(text);
        channel::send(self.0.as_fd(), &message, descriptor)
    }
}

impl Reports {
    /// Reads to the end of the channel. The child's end must be closed here.
    pub(super) fn outcome(self) -> Result<Outcome, LaunchError> {
        let mut outcome = Outcome::default();
        let mut ready = false;
        let mut buffer = [0; HEADER + MAX_TEXT];
        loop {
            let received =
                channel::receive(self.0.as_fd(), &mut buffer).map_err(|errno| LaunchError {
                    errno: Some(errno),
                    ..died()
                })?;
            let Some((header, text)) = buffer[..received.length].split_first_chunk::<HEADER>()
            else {
                return if ready { Ok(outcome) } else { Err(died()) };
            };
            let text = String::from_utf8_lossy(text);
            match header[0] {
                WARNING => outcome.warnings.push(text.into_owned()),
                HANDED => outcome.handed = received.descriptor,
                READY => ready = true,
                _ => return Err(failure(*header, text.into_owned())),
            }
        }
    }
}

fn died() -> LaunchError {
    LaunchError::new(
        Stage::Clone,
        "the container's process was killed before its command started",
    )
}

fn failure(header: [u8; HEADER], detail: String) -> LaunchError {
    let [_, stage, a, b, c, d] = header;
    let errno = i32::from_ne_bytes([a, b, c, d]);
    LaunchError {
        stage: Stage::from_byte(stage).unwrap_or(Stage::Clone),
        errno: (errno != 0).then(|| Errno::from_raw(errno)),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::error::At;

    #[test]
    fn the_end_after_ready_is_success() {
        let (child, launcher) = channel().unwrap();
        let (master, _slave) = channel::pair().unwrap();
        child.warning("careful");
        child.hand_over(master.as_fd()).unwrap();
        child.ready().unwrap();
        drop(child);
        let outcome = launcher.outcome().unwrap();
        assert_eq!(outcome.warnings, ["careful"]);
        assert!(outcome.handed.is_some());
    }

    #[test]
    fn the_end_before_ready_is_a_death() {
        let (child, launcher) = channel().unwrap();
        drop(child);
        assert_eq!(launcher.outcome().unwrap_err(), died());
    }

    #[test]
    fn a_failure_arrives_as_it_was() {
        let (child, launcher) = channel().unwrap();
        let error = Err::<(), _>(Errno::ELOOP)
            .at(Stage::System, || "mount /proc")
            .unwrap_err();
        child.ready().unwrap();
        child.failed(&error);
        assert_eq!(launcher.outcome().unwrap_err(), error);
    }

    #[test]
    fn a_launcher_that_is_gone_is_noticed() {
        let (child, launcher) = channel().unwrap();
        drop(launcher);
        assert_eq!(child.ready(), Err(Errno::EPIPE));
    }
}
