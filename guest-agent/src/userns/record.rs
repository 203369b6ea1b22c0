//! What is known of the namespaces from one command to the next.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::stat;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::folder;
use crate::sys;

/// A process, and not another one that has got its number since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Clock ticks from the machine's start to the process's, proc_pid_stat(5).
    started: u64,
}

impl Process {
    /// The process that has the number now, if it has not ended: nobody may be there to
    /// reap it.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The name before it may have anything in itself.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let has_ended = matches!(fields.next()?, "Z" | "X");
        let started = fields.nth(18)?.parse().ok()?;
        (!has_ended).then_some(Self { pid, started })
    }

    pub(super) fn pid(self) -> Pid {
        Pid::from_raw(self.pid)
    }

    pub(super) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The namespaces that containers of a data root live in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of the machine's start that they are of.
    pub(super) boot: String,
    /// Who holds them.
    pub(super) keeper: Process,
    /// Who connects them to the host's network.
    pub(super) network: Option<Process>,
    /// Who binds ports outside.
    pub(super) broker: Option<Process>,
    /// Which ones they are.
    pub(super) namespaces: Identity,
    /// What the user has been told about them.
    pub(super) notes: Vec<String>,
}

impl Record {
    /// The last one of a data root, of whatever machine's start.
    pub(super) fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(root)).ok()?).ok()
    }

    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        sys::fs::replace(&path(root), &text, false)
    }
}

fn path(root: &Path) -> PathBuf {
    folder(root).join("keeper.json")
}

/// Names this start of the machine.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// A user and a network namespace, by their inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    user: u64,
    network: u64,
}

impl Identity {
    /// Those of a process; `None` where it has gone, or is none of our business.
    pub(super) fn of(pid: &str) -> Option<Self> {
        let inode = |kind| Some(stat(format!("/proc/{pid}/ns/{kind}").as_str()).ok()?.st_ino);
        Some(Self {
            user: inode("user")?,
            network: inode("net")?,
        })
    }

    /// A process that is in both, other than those in `but`.
    pub(super) fn somebody(self, but: &[Pid]) -> Option<Pid> {
        let processes = fs::read_dir("/proc").ok()?;
        processes.filter_map(Result::ok).find_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let pid = Pid::from_raw(name.parse().ok()?);
            (!but.contains(&pid) && Self::of(name) == Some(self)).then_some(pid)
        })
    }
}

/// The two namespaces of a process, open.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) user: OwnedFd,
    pub(super) network: OwnedFd,
    pub(super) identity: Identity,
}

impl Namespaces {
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let open = |kind| File::open(format!("/proc/{pid}/ns/{kind}")).map(OwnedFd::from);
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let before = Identity::of(&pid.to_string()).ok_or_else(gone)?;
        let opened = Self {
            user: open("user")?,
            network: open("net")?,
            identity: before,
        };
        match Identity::of(&pid.to_string()) == Some(before) {
            true => Ok(opened),
            false => Err(gone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_its_successor() {
        let own = Process::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive());
        let other = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!other.is_alive());
        assert_eq!(Process::of(i32::MAX), None);
    }

    #[test]
    fn everybody_is_in_some_namespaces() {
        let own = Identity::of("self").unwrap();
        let me = Pid::from_raw(std::process::id().cast_signed());
        let found = own.somebody(&[]).unwrap();
        assert_eq!(Identity::of(&found.to_string()), Some(own));
        assert_ne!(own.somebody(&[me]), Some(me));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(root.path()), None);
        fs::create_dir(folder(root.path())).unwrap();
        let record = Record {
            boot: boot(),
            keeper: Process::of(1).unwrap(),
            network: None,
            broker: Process::of(1),
            namespaces: Identity::of("self").unwrap(),
            notes: vec!["a".to_owned()],
        };
        record.write(root.path()).unwrap();
        assert_eq!(Record::read(root.path()), Some(record));
        fs::write(path(root.path()), "{").unwrap();
        assert_eq!(Record::read(root.path()), None);
    }
}
