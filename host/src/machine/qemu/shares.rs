//! Folders of this host in the guest: for each one in use a virtiofs device,
//! plugged in while the guest runs, served by a sandboxed virtiofsd of its own
//! that sees nothing but that folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::future::{FutureExt, LocalBoxFuture};
use isolazi_protocol::BindSource;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::command::{hotplug_place, hotplug_slots};
use super::confine::{self, Confinement};
use super::handed::Handed;
use super::helper;
use super::qmp::Qmp;
use crate::machine::supervised::{self, Layout, Process, Record, ShareRecord};
use crate::machine::{GuestArch, MachineError};

/// The shares of one boot.
#[derive(Debug)]
pub(super) struct Shares {
    /// Where the appliance has one.
    virtiofsd: Option<PathBuf>,
    layout: Layout,
    in_use: Vec<Share>,
    /// Found out when the first one is shared.
    can_make_namespaces: OnceCell<bool>,
    /// Of the machine, with its shares. Slots of the bus that have been used are
    /// not used twice, as the guest may still mount what was there.
    record: Record,
}

#[derive(Debug)]
struct Share {
    folder: PathBuf,
    read_only: bool,
    tag: String,
    daemon: Process,
}

impl Share {
    fn serves(&mut self, folder: &Path, read_only: bool) -> bool {
        self.folder == folder && self.read_only == read_only && self.daemon.is_alive()
    }

    fn record(&self) -> Option<ShareRecord> {
        Some(ShareRecord {
            folder: self.folder.clone(),
            read_only: self.read_only,
            tag: self.tag.clone(),
            daemon: Some(self.daemon.identity()?),
        })
    }
}

/// How far virtiofsd locks itself in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sandbox {
    /// Namespaces of its own, with nothing but the folder in sight.
    Namespace,
    /// Its system-call filter, and our own rules around it, for hosts that keep namespaces from
    /// ordinary users, as Ubuntu does.
    FilterOnly,
}

impl Shares {
    /// Those of the recorded machine that are still served.
    pub(super) fn adopt(virtiofsd: Option<PathBuf>, layout: Layout, record: Record) -> Self {
        let served = record.shares.iter().filter_map(|share| {
            Some(Share {
                folder: share.folder.clone(),
                read_only: share.read_only,
                tag: share.tag.clone(),
                daemon: Process::adopt(share.daemon?)?,
            })
        });
        Self {
            virtiofsd,
            layout,
            in_use: served.collect(),
            can_make_namespaces: OnceCell::new(),
            record,
        }
    }

    /// Shares `path`, or the folder that a file lies in.
    async fn share(&mut self, path: &Path, read_only: bool) -> Result<BindSource, MachineError> {
        let (folder, subpath) = split(path)?;
        let known = self
            .in_use
            .iter_mut()
            .find_map(|share| share.serves(&folder, read_only).then(|| share.tag.clone()));
        let tag = match known {
            Some(tag) => tag,
            None => self.plug(folder, read_only).await?,
        };
        Ok(BindSource::Share { tag, subpath })
    }

    async fn plug(&mut self, folder: PathBuf, read_only: bool) -> Result<String, MachineError> {
        let slots = hotplug_slots(GuestArch::current());
        if self.record.used_slots == slots {
            return Err(MachineError::Failed(format!(
                "{slots} folders have been shared with the machine, which is all it can take; restart it with: isolazi vm stop"
            )));
        }
        self.record.used_slots += 1;
        let slot = self.record.used_slots;
        let tag = format!("share-{slot}");
        let socket = self.layout.helper_socket(&tag);
        let daemon = self.serve(&folder, &socket, read_only).await?;
        self.in_use.retain_mut(|share| share.daemon.is_alive());
        self.in_use.push(Share {
            folder,
            read_only,
            tag: tag.clone(),
            daemon: daemon.into(),
        });
        // Before QEMU knows of it, so that no daemon is ever forgotten.
        self.record.shares = self.in_use.iter().filter_map(Share::record).collect();
        self.record.write(&self.layout.record())?;
        let mut qmp = Qmp::connect(&self.layout.helper_socket("qmp")).await?;
        let connection = Handed::connected(&socket)?;
        if let Err(error) = add_device(&mut qmp, slot, &tag, connection).await {
            self.in_use.pop();
            return Err(error);
        }
        Ok(tag)
    }

    /// Starts a daemon, locked in as far as this host lets it.
    async fn serve(
        &self,
        folder: &Path,
        socket: &Path,
        read_only: bool,
    ) -> Result<tokio::process::Child, MachineError> {
        let virtiofsd = self.virtiofsd.as_deref().ok_or_else(|| {
            MachineError::Failed(
                "folders cannot be shared with this machine: its appliance was built on another kind of machine, without virtiofsd; build it on this one".to_owned(),
            )
        })?;
        let owner = Owner::current();
        let arguments = |sandbox| arguments(folder, socket, read_only, sandbox, owner);
        let can_make_namespaces = self
            .can_make_namespaces
            .get_or_init(confine::can_make_namespaces);
        let command = match *can_make_namespaces.await {
            true => {
                let mut command = Command::new(virtiofsd);
                command.args(arguments(Sandbox::Namespace));
                command
            }
            false => {
                let mut command = confined(virtiofsd, folder, socket, read_only)?;
                command.args(arguments(Sandbox::FilterOnly));
                command
            }
        };
        helper::start(command, socket).await
    }
}

/// Where namespaces may not be made, the daemon is kept to the folder in
/// another way.
fn confined(
    virtiofsd: &Path,
    folder: &Path,
    socket: &Path,
    read_only: bool,
) -> Result<Command, MachineError> {
    let mut confinement = Confinement {
        read: vec![virtiofsd.to_owned()],
        write: socket.parent().map(Path::to_owned).into_iter().collect(),
        ..Confinement::default()
    };
    match read_only {
        true => confinement.read.push(folder.to_owned()),
        false => confinement.write.push(folder.to_owned()),
    }
    confinement.command(virtiofsd)
}

impl supervised::Shares for Shares {
    fn share<'a>(
        &'a mut self,
        path: &'a Path,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<BindSource, MachineError>> {
        self.share(path, read_only).boxed_local()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let in_use = self.in_use.iter();
        in_use.map(|share| share.folder.clone()).collect()
    }
}

/// Whose files those are that a guest makes.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    fn current() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }
}

/// The arguments of virtiofsd for one folder. Whatever the guest says, a file
/// belongs to the user who runs this: so chown does nothing but does not fail.
/// The guest sees the true owner, so that `-u` with this user's id can write.
fn arguments(
    folder: &Path,
    socket: &Path,
    read_only: bool,
    sandbox: Sandbox,
    owner: Owner,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "--shared-dir".into(),
        folder.into(),
        "--socket-path".into(),
        socket.into(),
        "--sandbox".into(),
        match sandbox {
            Sandbox::Namespace => "namespace".into(),
            Sandbox::FilterOnly => "none".into(),
        },
        "--inode-file-handles=never".into(),
        // What the host changes is seen at once, as in a bind mount.
        "--cache=never".into(),
        "--allow-mmap".into(),
        "--log-level".into(),
        "error".into(),
    ];
    for (option, id) in [
        ("--translate-uid", owner.uid),
        ("--translate-gid", owner.gid),
    ] {
        arguments.push(option.into());
        arguments.push(format!("squash-guest:0:{id}:{}", u32::MAX).into());
    }
    if read_only {
        arguments.push("--readonly".into());
    }
    arguments
}

/// Connects QEMU to the daemon, whose socket it may have no right to, and the
/// guest to QEMU.
async fn add_device(
    qmp: &mut Qmp,
    slot: u8,
    tag: &str,
    daemon: Handed,
) -> Result<(), MachineError> {
    qmp.hand_over(tag, daemon).await?;
    let backend = json!({
        "type": "socket",
        "data": { "addr": { "type": "fd", "data": { "str": tag } }, "server": false },
    });
    let (bus, address) = hotplug_place(GuestArch::current(), slot);
    qmp.execute("chardev-add", json!({ "id": tag, "backend": backend }))
        .await?;
    let device = json!({
        "driver": "vhost-user-fs-pci",
        "id": format!("fs-{tag}"),
        "chardev": tag,
        "tag": tag,
        "bus": bus,
        "addr": address,
    });
    qmp.execute("device_add", device).await.map(drop)
}

fn split(path: &Path) -> Result<(PathBuf, String), MachineError> {
    if path.is_dir() {
        return Ok((path.to_owned(), String::new()));
    }
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(folder), Some(name)) => Ok((folder.to_owned(), name.to_owned())),
        _ => Err(MachineError::Failed(format!(
            "{} cannot be shared with the machine; rename it",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(read_only: bool, sandbox: Sandbox) -> String {
        let owner = Owner {
            uid: 1000,
            gid: 100,
        };
        let (folder, socket) = (Path::new("/home/a b"), Path::new("/run/s"));
        let words = arguments(folder, socket, read_only, sandbox, owner);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn whoever_makes_a_file_it_belongs_to_the_user() {
        let line = line(false, Sandbox::Namespace);
        assert!(
            line.starts_with("--shared-dir /home/a b --socket-path /run/s --sandbox namespace")
        );
        assert!(line.contains("--translate-uid squash-guest:0:1000:4294967295"));
        assert!(line.contains("--translate-gid squash-guest:0:100:4294967295"));
        assert!(!line.contains("--readonly"));
    }

    #[test]
    fn read_only_is_enforced_outside_the_guest() {
        assert!(line(true, Sandbox::Namespace).contains("--readonly"));
        assert!(line(true, Sandbox::FilterOnly).contains("--sandbox none"));
    }

    #[test]
    fn a_file_is_shared_through_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, "").unwrap();
        let whole = (folder.path().to_owned(), String::new());
        assert_eq!(split(folder.path()).unwrap(), whole);
        let part = (folder.path().to_owned(), "a file".to_owned());
        assert_eq!(split(&file).unwrap(), part);
    }
}
