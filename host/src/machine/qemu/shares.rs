//! Folders of this host in the guest: for each one in use a virtiofs device,
//! plugged in while the guest runs, served by a sandboxed virtiofsd of its own
//! that sees nothing but that folder.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::{Child, Command};

use super::command::{HOTPLUG_BUS, HOTPLUG_SLOTS};
use super::helper;
use super::layout::Layout;
use super::qmp::Qmp;
use crate::machine::MachineError;

/// The shares of one boot.
#[derive(Debug)]
pub(super) struct Shares {
    virtiofsd: PathBuf,
    layout: Layout,
    in_use: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    folder: PathBuf,
    read_only: bool,
    /// Ends with us.
    _daemon: Child,
}

impl Shares {
    pub(super) fn new(virtiofsd: PathBuf, layout: Layout) -> Self {
        Self {
            virtiofsd,
            layout,
            in_use: Vec::new(),
        }
    }

    /// The folders shared at present.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.in_use
            .iter()
            .map(|share| share.folder.clone())
            .collect()
    }

    /// Shares `path`, or the folder that a file lies in; returns the tag and
    /// the path below the share.
    pub(super) async fn share(
        &mut self,
        path: &Path,
        read_only: bool,
    ) -> Result<(String, String), MachineError> {
        let (folder, subpath) = split(path)?;
        let known = self
            .in_use
            .iter()
            .position(|share| share.folder == folder && share.read_only == read_only);
        let index = match known {
            Some(index) => index,
            None => self.plug(folder, read_only).await?,
        };
        Ok((tag(index), subpath))
    }

    async fn plug(&mut self, folder: PathBuf, read_only: bool) -> Result<usize, MachineError> {
        let index = self.in_use.len();
        let slot = u8::try_from(index + 1)
            .ok()
            .filter(|slot| *slot <= HOTPLUG_SLOTS);
        let slot = slot.ok_or_else(|| {
            MachineError::Failed(format!(
                "{HOTPLUG_SLOTS} folders are shared with the machine, which is all it can take; restart it with: isolazi vm stop"
            ))
        })?;
        let tag = tag(index);
        let socket = self.layout.helper_socket(&format!("fs-{tag}"));
        let daemon = helper::start(self.daemon(&folder, &socket, read_only), &socket).await?;
        let mut qmp = Qmp::connect(&self.layout.helper_socket("qmp")).await?;
        let backend = json!({
            "type": "socket",
            "data": { "addr": { "type": "unix", "data": { "path": socket } }, "server": false },
        });
        qmp.execute("chardev-add", json!({ "id": tag, "backend": backend }))
            .await?;
        let device = json!({
            "driver": "vhost-user-fs-pci",
            "id": format!("fs-{tag}"),
            "chardev": tag,
            "tag": tag,
            "bus": HOTPLUG_BUS,
            "addr": slot.to_string(),
        });
        qmp.execute("device_add", device).await?;
        self.in_use.push(Share {
            folder,
            read_only,
            _daemon: daemon,
        });
        Ok(index)
    }

    /// Whatever the guest says, files belong to the user who runs this: all of
    /// the guest's ids stand for that user's.
    fn daemon(&self, folder: &Path, socket: &Path, read_only: bool) -> Command {
        let mut command = Command::new(&self.virtiofsd);
        command.arg("--socket-path").arg(socket);
        command.arg("--shared-dir").arg(folder);
        command.args([
            "--sandbox",
            "namespace",
            "--inode-file-handles=never",
            "--log-level",
            "error",
        ]);
        if read_only {
            command.arg("--readonly");
        }
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        for (map, translate, id) in [
            ("--uid-map", "--translate-uid", user.as_raw()),
            ("--gid-map", "--translate-gid", group.as_raw()),
        ] {
            if !user.is_root() {
                // In its user namespace the daemon has one id, 0, which is the user.
                command.args([map, &format!(":0:{id}:1:")]);
            }
            command.args([translate, "squash-guest:0:0:4294967295"]);
        }
        command
    }
}

fn tag(index: usize) -> String {
    format!("share-{index}")
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
