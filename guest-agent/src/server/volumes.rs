//! Requests about volumes, and what containers need of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use isolazi_protocol::{ContainerSpec, ErrorCode, Reply, VolumeMount, WireError};

use crate::server::Engine;
use crate::volume::{Hold, VolumeError};

impl Engine {
    /// Makes the volumes that `spec` has and are not there yet, names the
    /// anonymous ones, and keeps all from being removed.
    pub(super) fn hold_volumes(&self, spec: &mut ContainerSpec) -> Result<Option<Hold>, WireError> {
        let mounts = &mut spec.options.volumes;
        if mounts.is_empty() {
            return Ok(None);
        }
        let hold = self.volumes.hold()?;
        self.volumes.settle(&hold, mounts, spec.auto_remove)?;
        Ok(Some(hold))
    }

    /// Takes the anonymous volumes of a container back that does not exist any more.
    pub(super) fn forget_volumes(&self, mounts: &[VolumeMount]) {
        // What cannot be removed now is in nobody's way, and `prune` finds it.
        let _ = self.volumes.remove_of(mounts);
    }

    pub(super) fn volume_folders(&self, spec: &ContainerSpec) -> Vec<PathBuf> {
        let mounts = spec.options.volumes.iter();
        mounts.map(|it| self.volumes.folder(&it.name)).collect()
    }

    pub(super) async fn create_volume(
        self: &Arc<Self>,
        name: Option<String>,
        labels: BTreeMap<String, String>,
    ) -> Result<Reply, WireError> {
        self.aside(move |engine| {
            Self::require_root()?;
            let made = engine.volumes.create(name.as_deref(), labels)?;
            Ok(Reply::Volumes(vec![made]))
        })
        .await
    }

    pub(super) fn list_volumes(&self, names: Option<Vec<String>>) -> Result<Reply, WireError> {
        let Some(names) = names else {
            return Ok(Reply::Volumes(self.volumes.list()));
        };
        let details = names.iter().map(|name| self.volumes.detail(name));
        Ok(Reply::Volumes(details.collect::<Result<_, _>>()?))
    }

    pub(super) async fn remove_volume(
        self: &Arc<Self>,
        name: String,
        force: bool,
    ) -> Result<Reply, WireError> {
        self.aside(move |engine| match engine.volumes.remove(&name) {
            Err(VolumeError::NotFound(_)) if force => Ok(Reply::Done),
            other => Ok(other.map(|()| Reply::Done)?),
        })
        .await
    }

    pub(super) async fn prune_volumes(self: &Arc<Self>, all: bool) -> Result<Reply, WireError> {
        self.aside(move |engine| {
            let (names, bytes) = engine.volumes.prune(all)?;
            Ok(Reply::PrunedVolumes { names, bytes })
        })
        .await
    }

    /// Does what may wait for a lock or a disk where nobody else waits for it.
    async fn aside(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<Reply, WireError> + Send + 'static,
    ) -> Result<Reply, WireError> {
        let engine = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        done.unwrap_or_else(|_| {
            let message = "the request failed unexpectedly; please report this";
            Err(WireError::new(ErrorCode::Internal, message))
        })
    }
}
