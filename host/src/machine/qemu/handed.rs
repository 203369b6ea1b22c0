//! Files and sockets that a program inherits instead of opening them: it may be
//! one that has no right to, or no way to where they are.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::user::User;
use crate::machine::MachineError;
use crate::machine::supervised::keep_private;

/// An open file or socket; it has the same number in the program.
#[derive(Debug)]
pub(super) struct Handed(OwnedFd);

impl Handed {
    /// A file to open by [`Handed::path`] and read. What only its owner can read
    /// is copied for `user`.
    pub(super) fn to_read(path: &Path, user: Option<&User>) -> Result<Self, MachineError> {
        readable(path, user)
            .map(Self::from)
            .map_err(MachineError::io("read", path))
    }

    /// A file to read and write by its number.
    pub(super) fn to_write(path: &Path) -> Result<Self, MachineError> {
        let opened = File::options().read(true).write(true).open(path);
        opened
            .map(Self::from)
            .map_err(MachineError::io("open", path))
    }

    /// A socket that the program is to listen at.
    pub(super) fn listening(path: &Path) -> Result<Self, MachineError> {
        let _ = fs::remove_file(path);
        let bound = UnixListener::bind(path).and_then(|it| keep_private(path).map(|()| it));
        bound
            .map(|it| Self(it.into()))
            .map_err(MachineError::io("listen at", path))
    }

    /// A connection to whoever listens at `path`.
    pub(super) fn connected(path: &Path) -> Result<Self, MachineError> {
        let stream = UnixStream::connect(path);
        stream
            .map(|it| Self(it.into()))
            .map_err(MachineError::io("connect to", path))
    }

    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Where the program finds the file anew, whatever folders it lies in.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.number()).into()
    }
}

impl From<File> for Handed {
    fn from(file: File) -> Self {
        Self(file.into())
    }
}

impl From<Handed> for OwnedFd {
    fn from(handed: Handed) -> Self {
        handed.0
    }
}

fn readable(path: &Path, user: Option<&User>) -> io::Result<File> {
    const READ_BY_OTHERS: u32 = 0o4;
    let mut file = File::open(path)?;
    if user.is_none() || file.metadata()?.mode() & READ_BY_OTHERS != 0 {
        return Ok(file);
    }
    // Whoever has it may open it again, as it has no owner that minds.
    let mut copy = File::from(memfd_create("isolazi", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut file, &mut copy)?;
    copy.flush()?;
    copy.rewind()?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn inherited(handed: Handed, script: &str) -> String {
        let path = handed.path();
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script, "sh"]).arg(path);
        crate::sys::hand_down(&mut command, vec![handed.into()]);
        let output = command.as_std_mut().output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_program_finds_what_it_is_handed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        let handed = Handed::to_read(&file, None).unwrap();
        assert_eq!(inherited(handed, "cat $1; cat $1"), "contentcontent");
    }

    #[test]
    fn what_only_its_owner_can_read_is_copied_for_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let user = User::for_tests();
        for (mode, copied) in [(0o600, true), (0o640, true), (0o644, false)] {
            let path = folder.path().join(format!("{mode:o}"));
            fs::write(&path, "content").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut file = readable(&path, Some(&user)).unwrap();
            let status = file.metadata().unwrap();
            assert_eq!(status.ino() != fs::metadata(&path).unwrap().ino(), copied);
            assert_eq!(status.mode() & 0o004, 0o004, "{mode:o}");
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            assert_eq!(content, "content");
        }
    }

    #[test]
    fn a_socket_is_listened_at_where_one_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(Handed::listening(&path).unwrap());
        assert!(Handed::connected(&path).is_err());
        let _listening = Handed::listening(&path).unwrap();
        assert!(Handed::connected(&path).is_ok());
    }
}
