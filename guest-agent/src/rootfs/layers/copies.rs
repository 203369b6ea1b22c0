//! Layers with other owners, for containers whose ids no mount can show: an ordinary
//! user's, with ids of its own.
//!
//! A copy lies beside the layer's content, in the layer's folder, and goes with it. Its
//! name is made from the ids, so all containers with the same ids share it.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use isolazi_protocol::Digest;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::unistd::syncfs;
use sha2::{Digest as _, Sha256};

use super::{CONTENT, LayerStore, StoreError, make_folder};
use crate::rootfs::copy::{self, Owners};
use crate::sys::fs;
use crate::sys::idmap::IdMap;

impl LayerStore {
    /// Where the content of a layer is as a container with these users and groups has it;
    /// `None` where the store lacks the layer. Copies it at first, and blocks meanwhile.
    pub fn copy_for(
        &self,
        diff_id: &Digest,
        ids: &(IdMap, IdMap),
    ) -> Result<Option<PathBuf>, StoreError> {
        let Some(original) = self.path(diff_id) else {
            return Ok(None);
        };
        let name = name_for(ids);
        let path = original.with_file_name(&name);
        if !path.is_dir() {
            let copied = self.make_copy(diff_id, &name, ids);
            copied.map_err(|source| StoreError::Layer {
                action: "copy for other owners",
                diff_id: diff_id.clone(),
                source,
            })?;
        }
        Ok(Some(path))
    }

    fn make_copy(&self, diff_id: &Digest, name: &str, ids: &(IdMap, IdMap)) -> io::Result<()> {
        let layer = fs::open_dir_at(self.shared.complete.as_fd(), diff_id.hex().as_bytes())?;
        let original = fs::open_dir_at(layer.as_fd(), CONTENT.as_bytes())?;
        let temp = self.make_temp()?;
        let content = make_folder(temp.lock.as_fd(), CONTENT, 0o755)?;
        let owners = Owners::of_container(ids)?;
        copy::tree(original.as_fd(), content.as_fd(), &owners)?;
        // Content before the name that vouches for it.
        syncfs(&content)?;
        match renameat(&*temp.lock, CONTENT, &layer, name) {
            // Another has made it meanwhile.
            Err(Errno::EEXIST | Errno::ENOTEMPTY) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Of the folder with the copy for these ids.
fn name_for((users, groups): &(IdMap, IdMap)) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{users}\n{groups}")).into();
    format!("for-{}", Digest::from_bytes(&digest).hex())
}
