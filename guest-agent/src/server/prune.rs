//! Requests about what is on the disk, needed or not.

use isolazi_protocol::{Digest, DiskUsage, ErrorCode, Reply, WireError};

use crate::server::{Engine, layers};

impl Engine {
    /// Removes the layers that neither the host nor a container wants.
    pub(super) async fn prune_layers(&self, keep: Vec<Digest>) -> Result<Reply, WireError> {
        let (store, containers) = (self.layers.clone(), self.containers.clone());
        blocking(move || {
            let pruned = store.prune(|| {
                let mut wanted = containers.layers_in_use().map_err(WireError::from)?;
                wanted.extend(keep);
                Ok::<_, PruneError>(wanted)
            });
            pruned.map(Reply::Pruned).map_err(|PruneError(error)| error)
        })
        .await
    }

    pub(super) async fn disk_usage(&self, with_volumes: bool) -> Result<Reply, WireError> {
        let (store, containers) = (self.layers.clone(), self.containers.clone());
        let volumes = with_volumes.then(|| self.volumes.clone());
        blocking(move || {
            let layers = store.usage().map_err(|error| layers::to_wire(&error))?;
            Ok(Reply::DiskUsage(DiskUsage {
                layers,
                containers: containers.usage(),
                volumes: volumes.map(|it| it.usage()).unwrap_or_default(),
            }))
        })
        .await
    }
}

/// Errors of both stores as they go over the wire.
struct PruneError(WireError);

impl From<crate::rootfs::layers::StoreError> for PruneError {
    fn from(error: crate::rootfs::layers::StoreError) -> Self {
        Self(layers::to_wire(&error))
    }
}

impl From<WireError> for PruneError {
    fn from(error: WireError) -> Self {
        Self(error)
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<Reply, WireError> + Send + 'static,
) -> Result<Reply, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(WireError::new(
            ErrorCode::Internal,
            "looking through the disk failed unexpectedly; please report this",
        ))
    })
}
