//! Who is in which network, for whoever looks for a name, or for company.
//!
//! ```text
//! networks/.members/izv-ac150002    the container at 172.21.0.2, named as its cable is
//! ```
//!
//! A container's shim writes its entries and takes them back. One that was killed leaves
//! them behind, so an entry counts only as long as its cable is there; the next owner of
//! the address replaces it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use isolazi_protocol::{ContainerId, Endpoint, NetworkMember};

use super::bridge::taken;
use super::naming::link_of;
use crate::sys;

/// The members of all networks of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Members(PathBuf);

impl Members {
    /// Those of the engine whose networks are described in this folder.
    pub(crate) fn of(networks: &Path) -> Self {
        Self(networks.join(".members"))
    }

    /// Enters a container as it is in one network.
    pub(crate) fn enter(&self, member: &NetworkMember) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let entry = serde_json::to_vec(member)?;
        sys::fs::replace(&self.path(&member.endpoint), &entry, false)
    }

    /// Takes a container's entry back, unless somebody else has the address by now.
    pub(crate) fn remove(&self, container: &ContainerId, endpoint: &Endpoint) {
        let path = self.path(endpoint);
        if read(&path).is_some_and(|member| member.container == *container) {
            // What stays counts for nothing.
            let _ = fs::remove_file(path);
        }
    }

    /// All that are attached.
    pub(crate) fn list(&self) -> Vec<NetworkMember> {
        self.sorted_out().0
    }

    /// Takes back the entries that do not count any more.
    pub(super) fn sweep(&self) {
        for member in self.sorted_out().1 {
            self.remove(&member.container, &member.endpoint);
        }
    }

    /// The entries that count, and the others.
    fn sorted_out(&self) -> (Vec<NetworkMember>, Vec<NetworkMember>) {
        let taken = taken().unwrap_or_default();
        let is_attached = |it: &NetworkMember| taken.contains(&it.endpoint.address);
        self.entries().into_iter().partition(is_attached)
    }

    /// When an entry was last made or taken back, in the system's eyes.
    pub(super) fn changed_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.0).ok()?.modified().ok()
    }

    /// All entries, whether they still count or not.
    pub(super) fn entries(&self) -> Vec<NetworkMember> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter_map(|entry| read(&entry.path())).collect()
    }

    fn path(&self, endpoint: &Endpoint) -> PathBuf {
        self.0.join(link_of(endpoint.address))
    }
}

/// `None` where it is gone, or just being written.
fn read(path: &Path) -> Option<NetworkMember> {
    if path.extension().is_some() {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
