//! `isolazi volume`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use isolazi_protocol::{Reply, Request, VolumeDetail};

use crate::cli::{
    VolumeCommand, VolumeCreateArgs, VolumeInspectArgs, VolumePruneArgs, VolumeRmArgs,
};
use crate::commands::confirm::confirmed;
use crate::commands::{Context, prune, several};
use crate::engine::Engine;
use crate::inspect;
use crate::options;
use crate::output::{self, Table, printable};

pub(super) async fn volume(context: &Context, command: &VolumeCommand) -> Result<u8> {
    let engine = context.engine()?;
    match command {
        VolumeCommand::Create(args) => create(&engine, args).await,
        VolumeCommand::Ls(args) => ls(&engine, args.quiet).await,
        VolumeCommand::Inspect(args) => show(&engine, args).await,
        VolumeCommand::Rm(args) => rm(&engine, args).await,
        VolumeCommand::Prune(args) => prune_unused(&engine, args).await,
    }
}

async fn create(engine: &Engine, args: &VolumeCreateArgs) -> Result<u8> {
    let labels: BTreeMap<_, _> = options::labels(&[], &args.label)?;
    let request = Request::CreateVolume {
        name: args.name.clone(),
        labels,
    };
    for volume in volumes(engine, &request).await? {
        output::result(printable(&volume.name));
    }
    Ok(0)
}

async fn ls(engine: &Engine, quiet: bool) -> Result<u8> {
    let found = volumes(engine, &Request::Volumes { names: None }).await?;
    if quiet {
        for volume in found {
            output::result(printable(&volume.name));
        }
        return Ok(0);
    }
    let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
    for volume in found {
        table.row(["local".to_owned(), volume.name]);
    }
    output::result(table.render());
    Ok(0)
}

/// Shows those that there are, and says which are missing.
async fn show(engine: &Engine, args: &VolumeInspectArgs) -> Result<u8> {
    let (details, status) = several::describe(&args.volumes, async |name| {
        let names = Some(vec![name]);
        let found = volumes(engine, &Request::Volumes { names }).await?;
        Ok(found.iter().map(inspect::volume).collect())
    })
    .await;
    output::result(serde_json::to_string_pretty(&details)?);
    Ok(status)
}

async fn rm(engine: &Engine, args: &VolumeRmArgs) -> Result<u8> {
    let request = |name: &str| Request::RemoveVolume {
        name: name.to_owned(),
        force: args.force,
    };
    several::ask(engine, &args.volumes, request).await
}

async fn prune_unused(engine: &Engine, args: &VolumePruneArgs) -> Result<u8> {
    let what = match args.all {
        true => "all volumes not used by at least one container",
        false => "anonymous volumes not used by at least one container",
    };
    if !args.force && !confirmed(&[what])? {
        return Ok(0);
    }
    let request = Request::PruneVolumes { all: args.all };
    let Reply::PrunedVolumes { names, bytes } = engine.ask(&request).await? else {
        bail!("the agent did not say which volumes it removed");
    };
    if !names.is_empty() {
        output::result("Deleted Volumes:");
        for name in names {
            output::result(printable(&name));
        }
        output::result("");
    }
    prune::total(bytes);
    Ok(0)
}

async fn volumes(engine: &Engine, request: &Request) -> Result<Vec<VolumeDetail>> {
    match engine.ask(request).await? {
        Reply::Volumes(volumes) => Ok(volumes),
        _ => bail!("the agent did not describe the volumes"),
    }
}
