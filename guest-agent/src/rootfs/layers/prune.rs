//! Layers that nobody needs any more.
//!
//! ```text
//!  run    ─► hold ───────────► layers there? ─► container's record ─► let go
//!  prune  ─► shut everyone out ─► who uses what? ─► move the rest aside ─► let go ─► delete
//! ```
//!
//! What is asked and what is done about it must not be separated by a container
//! that is just being made, so making one holds the lock `.use`. A layer that
//! is being unpacked has another name until it is whole, and is never touched.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use isolazi_protocol::{Digest, LayerUsage};
use nix::fcntl::{Flock, FlockArg, renameat};

use crate::rootfs::usage;
use crate::sys::fs;

use super::{LayerStore, StoreError, TempFolder};

const USE_LOCK: &[u8] = b".use";
/// A layer's name within the temporary folder it is deleted from.
const ASIDE: &str = "removed";

/// While it lives, no layer is removed.
#[derive(Debug)]
pub struct LayerHold {
    _lock: Flock<OwnedFd>,
}

impl LayerStore {
    /// Keeps every layer from being removed for a moment. Blocks while layers
    /// are being chosen for removal.
    pub fn hold(&self) -> Result<LayerHold, StoreError> {
        let lock = self.use_lock(FlockArg::LockShared)?;
        Ok(LayerHold { _lock: lock })
    }

    /// Removes all layers but those that `wanted` names; it is asked when no
    /// container can be made any more. Returns what was removed. Blocks.
    pub fn prune<E: From<StoreError>>(
        &self,
        wanted: impl FnOnce() -> Result<HashSet<Digest>, E>,
    ) -> Result<Vec<LayerUsage>, E> {
        let lock = self.use_lock(FlockArg::LockExclusive)?;
        let wanted = wanted()?;
        let mut aside = Vec::new();
        for diff_id in self.all()?.into_iter().filter(|id| !wanted.contains(id)) {
            let temp = self.set_aside(&diff_id)?;
            aside.push((diff_id, temp));
        }
        // Deleting takes its time, and nobody can see these layers any more.
        drop(lock);
        let removed = aside.into_iter().map(|(diff_id, temp)| LayerUsage {
            bytes: usage::of(temp.lock.as_fd()),
            diff_id,
        });
        Ok(removed.collect())
    }

    /// What each layer takes on disk. Blocks.
    pub fn usage(&self) -> Result<Vec<LayerUsage>, StoreError> {
        let complete = self.shared.complete.as_fd();
        let ids = self.all()?.into_iter();
        // One that is gone by now takes nothing.
        let measured = ids.filter_map(|diff_id| {
            let folder = fs::open_dir_at(complete, diff_id.hex().as_bytes()).ok()?;
            Some(LayerUsage {
                bytes: usage::of(folder.as_fd()),
                diff_id,
            })
        });
        Ok(measured.collect())
    }

    /// The layers that are there.
    fn all(&self) -> Result<Vec<Digest>, StoreError> {
        let names = fs::list_dir(self.shared.complete.as_fd()).map_err(|it| self.unusable(it))?;
        let digest = |name: Vec<u8>| {
            format!("sha256:{}", String::from_utf8(name).ok()?)
                .parse()
                .ok()
        };
        Ok(names.into_iter().filter_map(digest).collect())
    }

    /// Takes a layer's name away. Dropping what is returned deletes it.
    fn set_aside(&self, diff_id: &Digest) -> Result<TempFolder, StoreError> {
        let moved = self.make_temp().and_then(|temp| {
            renameat(&self.shared.complete, diff_id.hex(), &*temp.lock, ASIDE)?;
            Ok(temp)
        });
        moved.map_err(|source| StoreError::Layer {
            action: "remove",
            diff_id: diff_id.clone(),
            source,
        })
    }

    fn use_lock(&self, kind: FlockArg) -> Result<Flock<OwnedFd>, StoreError> {
        let file = fs::open_lock_at(self.shared.top.as_fd(), USE_LOCK);
        let file = file.map_err(|source| self.unusable(source))?;
        Flock::lock(file, kind).map_err(|(_, error)| self.unusable(error.into()))
    }

    fn unusable(&self, source: io::Error) -> StoreError {
        StoreError::Open {
            path: self.shared.path.clone(),
            source,
        }
    }
}
