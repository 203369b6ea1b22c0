//! `isolazi system df`.

use anyhow::{Result, bail};
use isolazi_protocol::{ContainerState, DiskUsage, Reply, Request};

use crate::commands::{Context, engines, places};
use crate::output::{self, Table};

/// One line of the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

pub(super) async fn df(context: &Context) -> Result<()> {
    let engines = engines::present(context).await?;
    let mut containers = Line::default();
    let mut usages = Vec::new();
    for engine in &engines {
        let listed = places::list(engine).await?;
        let everything = Request::DiskUsage { volumes: true };
        let Reply::DiskUsage(usage) = engine.ask(&everything).await? else {
            bail!("the agent did not say what takes space");
        };
        for container in &listed {
            let idle = matches!(
                container.state,
                ContainerState::Created | ContainerState::Exited { .. }
            );
            let own = usage.containers.iter().find(|it| it.id == container.id);
            let bytes = own.map_or(0, |it| it.bytes);
            containers.total += 1;
            containers.active += usize::from(!idle);
            containers.size += bytes;
            containers.reclaimable += if idle { bytes } else { 0 };
        }
        usages.push(usage);
    }
    let images = images(context, &engines::uses(&engines).await?, &usages)?;
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    table.row(row("Images", &images));
    table.row(row("Containers", &containers));
    table.row(row("Local Volumes", &volumes(&usages)));
    output::result(table.render());
    Ok(())
}

/// The store's blobs and the engines' unpacked layers together.
fn images(context: &Context, uses: &[crate::image::Use], usages: &[DiskUsage]) -> Result<Line> {
    let store = context.images()?;
    let all = store.list()?.images;
    let (active, idle): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|image| uses.iter().any(|it| it.image == image.config_digest));
    let needed = engines::diff_ids(&active);
    let unpacked = usages.iter().flat_map(|usage| &usage.layers);
    let mut line = Line {
        total: distinct(&active) + distinct(&idle),
        active: distinct(&active),
        size: store.size()?,
        reclaimable: store.size_without(&active)?,
    };
    for layer in unpacked {
        line.size += layer.bytes;
        if needed.binary_search(&layer.diff_id).is_err() {
            line.reclaimable += layer.bytes;
        }
    }
    Ok(line)
}

/// Those that no container has could be removed.
fn volumes(usages: &[DiskUsage]) -> Line {
    let mut line = Line::default();
    for volume in usages.iter().flat_map(|usage| &usage.volumes) {
        line.total += 1;
        line.active += usize::from(volume.in_use);
        line.size += volume.bytes;
        line.reclaimable += if volume.in_use { 0 } else { volume.bytes };
    }
    line
}

fn distinct(images: &[crate::image::Image]) -> usize {
    let mut ids: Vec<_> = images.iter().map(|image| &image.config_digest).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

fn row(kind: &str, line: &Line) -> [String; 5] {
    let share = match line.size {
        0 => 0,
        size => line.reclaimable.saturating_mul(100) / size,
    };
    [
        kind.to_owned(),
        line.total.to_string(),
        line.active.to_string(),
        output::short_size(line.size),
        format!("{} ({share}%)", output::short_size(line.reclaimable)),
    ]
}

#[cfg(test)]
mod tests {
    use isolazi_protocol::VolumeUsage;

    use super::*;

    #[test]
    fn volumes_of_all_engines_count_and_those_without_a_container_can_go() {
        let volume = |name: &str, bytes, in_use| VolumeUsage {
            name: name.to_owned(),
            bytes,
            in_use,
        };
        let usages = [
            vec![volume("a", 3, true), volume("b", 4, false)],
            vec![volume("a", 5, false)],
        ];
        let usages = usages.map(|volumes| DiskUsage {
            volumes,
            ..DiskUsage::default()
        });
        let expected = Line {
            total: 3,
            active: 1,
            size: 12,
            reclaimable: 9,
        };
        assert_eq!(volumes(&usages), expected);
        assert_eq!(
            row("Local Volumes", &expected)[4],
            format!("{} (75%)", output::short_size(9))
        );
    }
}
