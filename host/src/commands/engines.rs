//! All engines that share the image store, for commands that must not pull the
//! rug from under either's containers.
//!
//! The engine that the user chose always answers. The other is asked where it
//! is there without being started: natively where it has ever had a container,
//! in the machine while that runs. A container of a machine that is off loses
//! nothing when its image goes, since its layers lie on the machine's own disk
//! and the agent keeps them.

use anyhow::{Result, bail};
use isolazi_protocol::{Digest, Isolation, LayerUsage, Reply, Request};

use crate::commands::{Context, places};
use crate::engine::Engine;
use crate::image::{Image, ImageStore, Use};
use crate::output;

/// The engines to be asked, the chosen one first.
pub(super) async fn present(context: &Context) -> Result<Vec<Engine>> {
    let mut engines = vec![context.engine()?];
    match other(context).await {
        Ok(other) => engines.extend(other),
        Err(error) => output::warning(&format!("{error:#}; its containers are not asked for")),
    }
    Ok(engines)
}

async fn other(context: &Context) -> Result<Option<Engine>> {
    if context.isolation() == Isolation::Vm {
        return context
            .may_have_containers_here()
            .then(|| context.engine_in(Isolation::Process))
            .transpose();
    }
    if !context.paths.machine().is_dir() {
        return Ok(None);
    }
    match context.virtual_machine()?.is_running().await? {
        true => Ok(Some(context.engine_in(Isolation::Vm)?)),
        false => Ok(None),
    }
}

/// Which containers were made from which images.
pub(super) async fn uses(engines: &[Engine]) -> Result<Vec<Use>> {
    let mut uses = Vec::new();
    for engine in engines {
        let containers = places::list(engine).await?;
        uses.extend(containers.into_iter().map(|container| Use {
            container: container.id.short().to_owned(),
            image: container.image_id,
        }));
    }
    Ok(uses)
}

/// Has the engines drop the unpacked layers that no image of the store and no
/// container needs; returns what they dropped.
pub(super) async fn prune_layers(
    engines: &[Engine],
    store: &ImageStore,
) -> Result<Vec<LayerUsage>> {
    let images = store.list()?.images;
    let keep = diff_ids(&images);
    let mut dropped = Vec::new();
    for engine in engines {
        let request = Request::PruneLayers { keep: keep.clone() };
        match engine.ask(&request).await? {
            Reply::Pruned(layers) => dropped.extend(layers),
            _ => bail!("the agent did not say which layers it removed"),
        }
    }
    Ok(dropped)
}

/// The layers of all images, each once.
pub(super) fn diff_ids(images: &[Image]) -> Vec<Digest> {
    let layers = images.iter().flat_map(|image| &image.layers);
    let mut diff_ids: Vec<Digest> = layers.map(|layer| layer.diff_id.clone()).collect();
    diff_ids.sort_unstable();
    diff_ids.dedup();
    diff_ids
}
