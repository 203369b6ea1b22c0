//! `isolazi prune`, `image prune` and `system prune`.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail};
use isolazi_protocol::{ErrorCode, Reply, Request};

use crate::cli::{ImagePruneArgs, PruneArgs, SystemPruneArgs};
use crate::commands::confirm::confirmed;
use crate::commands::{Context, engines, networks, places};
use crate::engine::Engine;
use crate::image;
use crate::output;

/// How long pulls that are under way are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const STOPPED: &str = "all stopped containers";
const UNUSED: &str = "all images without at least one container associated to them";
const UNNAMED: &str = "all images without a name, and what interrupted pulls have left";

/// Stopped containers and all unused images. A script that calls it means it,
/// so the question is for terminals only.
pub(super) async fn prune(context: &Context, args: PruneArgs) -> Result<u8> {
    let ask = !args.force && std::io::stdin().is_terminal();
    if ask && !confirmed(&[STOPPED, UNUSED])? {
        return Ok(0);
    }
    let mut freed = containers(context).await?;
    freed += unused_images(context, true).await?;
    total(freed);
    Ok(0)
}

pub(super) async fn images(context: &Context, args: ImagePruneArgs) -> Result<u8> {
    let what = if args.all { UNUSED } else { UNNAMED };
    if !args.force && !confirmed(&[what])? {
        return Ok(0);
    }
    let freed = unused_images(context, args.all).await?;
    total(freed);
    Ok(0)
}

pub(super) async fn system(context: &Context, args: SystemPruneArgs) -> Result<u8> {
    let what = if args.all { UNUSED } else { UNNAMED };
    if !args.force && !confirmed(&[STOPPED, networks::UNUSED, what])? {
        return Ok(0);
    }
    let mut freed = containers(context).await?;
    unused_networks(context).await?;
    freed += unused_images(context, args.all).await?;
    total(freed);
    Ok(0)
}

/// Says how many bytes came back.
pub(super) fn total(freed: u64) {
    output::result(format!(
        "Total reclaimed space: {}",
        output::short_size(freed)
    ));
}

/// Removes the containers that do not run; returns how many bytes that gave back.
async fn containers(context: &Context) -> Result<u64> {
    let mut freed = 0;
    let mut heading = Some("Deleted Containers:");
    for engine in engines::present(context).await? {
        let mut stopped = places::list(&engine).await?;
        stopped.retain(|container| !container.state.is_active());
        if stopped.is_empty() {
            continue;
        }
        let sizes = sizes(&engine).await?;
        for container in stopped {
            if !remove(&engine, container.id.as_str()).await? {
                continue;
            }
            if let Some(heading) = heading.take() {
                output::result(heading);
            }
            output::result(container.id.as_str());
            let size = sizes.iter().find(|(id, _)| *id == container.id);
            freed += size.map_or(0, |(_, bytes)| *bytes);
        }
        context.refresh(&engine).await?;
    }
    if heading.is_none() {
        output::result("");
    }
    Ok(freed)
}

/// Whether the container is gone now; not if another command has removed or
/// started it in this moment.
async fn remove(engine: &Engine, container: &str) -> Result<bool> {
    let request = Request::Remove {
        container: container.to_owned(),
        force: false,
        volumes: false,
    };
    match engine.ask(&request).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_gone() || is_busy(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_busy(error: &crate::engine::EngineError) -> bool {
    error
        .refusal()
        .is_some_and(|refusal| refusal.code == ErrorCode::Conflict)
}

async fn sizes(engine: &Engine) -> Result<Vec<(isolazi_protocol::ContainerId, u64)>> {
    match engine.ask(&Request::DiskUsage { volumes: false }).await? {
        Reply::DiskUsage(usage) => Ok(usage
            .containers
            .into_iter()
            .map(|container| (container.id, container.bytes))
            .collect()),
        _ => bail!("the agent did not say what takes space"),
    }
}

/// Removes the networks that no container has, wherever.
async fn unused_networks(context: &Context) -> Result<()> {
    let mut removed = Vec::new();
    for engine in engines::present(context).await? {
        removed.extend(networks::pruned(&engine).await?);
    }
    if !removed.is_empty() {
        networks::print_pruned(&removed);
        output::result("");
    }
    Ok(())
}

/// Removes the images that no container uses, with or without a name; returns
/// how many bytes that gave back, here and on the engines' disks.
async fn unused_images(context: &Context, named: bool) -> Result<u64> {
    let store = context.images()?;
    let engines = engines::present(context).await?;
    let Some(alone) = store.alone(PATIENCE).await? else {
        bail!("images are being added; wait until they are there and try again");
    };
    let uses = engines::uses(&engines).await?;
    let removal = image::prune(&store, &alone, &uses, !named)?;
    let layers = engines::prune_layers(&engines, &store).await?;
    if !removal.untagged.is_empty() {
        output::result("Deleted Images:");
        for name in removal.untagged.iter().filter(|it| !it.is_unnamed()) {
            output::result(format!("untagged: {name}"));
            context.image_happened("untag", &name.to_string(), &name.to_string());
        }
        for id in &removal.deleted {
            output::result(format!("deleted: {id}"));
            context.image_happened("delete", id.as_str(), id.as_str());
        }
        output::result("");
    }
    Ok(removal.bytes + layers.iter().map(|layer| layer.bytes).sum::<u64>())
}
