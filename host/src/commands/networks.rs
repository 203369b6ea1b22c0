//! `isolazi network`.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, bail};
use ipnet::IpNet;
use isolazi_protocol::{EndpointRequest, NetworkDetail, NetworkRequest, Reply, Request};
use serde_json::{Value, json};

use crate::cli::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs,
    NetworkInspectArgs, NetworkLsArgs, NetworkPruneArgs, NetworkRmArgs,
};
use crate::commands::confirm::confirmed;
use crate::commands::filter::Filters;
use crate::commands::{Context, several};
use crate::engine::Engine;
use crate::inspect;
use crate::options;
use crate::output::{self, Listing, printable};

/// Digits of a network's id that a listing shows.
const SHORT: usize = 12;
/// What `prune` removes.
pub(super) const UNUSED: &str = "all networks not used by at least one container";
const FILTERS: [&str; 5] = ["driver", "id", "label", "name", "type"];
const TABLE: &str = r"{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
/// The fields, with the headings that they have in a table.
const HEADS: [(&str, &str); 8] = [
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

pub(super) async fn network(context: &Context, command: &NetworkCommand) -> Result<u8> {
    match command {
        NetworkCommand::Create(args) => create(&context.engine()?, args).await,
        NetworkCommand::Ls(args) => ls(&context.engine()?, args).await,
        NetworkCommand::Inspect(args) => show(&context.engine()?, args).await,
        NetworkCommand::Rm(args) => rm(&context.engine()?, args).await,
        NetworkCommand::Prune(args) => prune(&context.engine()?, args).await,
        NetworkCommand::Connect(args) => connect(context, args).await,
        NetworkCommand::Disconnect(args) => disconnect(context, args).await,
    }
}

async fn create(engine: &Engine, args: &NetworkCreateArgs) -> Result<u8> {
    let (mut subnet, mut ipv6_subnet) = (None, None);
    for range in &args.subnet {
        let given_before = match range {
            IpNet::V4(range) => subnet.replace(*range).is_some(),
            IpNet::V6(range) => ipv6_subnet.replace(*range).is_some(),
        };
        if given_before {
            bail!(
                "a network has one range of each family, so {range} is one too many; leave it out"
            );
        }
    }
    let request = Request::CreateNetwork(NetworkRequest {
        name: args.name.clone(),
        subnet,
        gateway: args.gateway,
        internal: args.internal,
        ipv6: args.ipv6,
        ipv6_subnet,
        labels: options::labels(&[], &args.label)?,
    });
    for network in networks(engine, &request).await? {
        output::result(network.id);
    }
    Ok(0)
}

async fn ls(engine: &Engine, args: &NetworkLsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let is_kind = |kind: &str| matches!(kind, "custom" | "builtin");
    if let Some(kind) = filters.values("type").find(|kind| !is_kind(kind)) {
        bail!("there is no type '{kind}' of networks; use custom or builtin");
    }
    let format = Listing::quiet(args.quiet, args.format.as_deref());
    let mut listing = Listing::new(format, TABLE, &HEADS)?;
    let found = networks(engine, &Request::Networks { names: None }).await?;
    for network in found.iter().filter(|it| fits(it, &filters)) {
        let labels = &network.labels;
        listing.labelled(fields(network, !args.no_trunc), labels)?;
    }
    listing.print();
    Ok(0)
}

fn fits(network: &NetworkDetail, filters: &Filters) -> bool {
    let kind = match network.created_at {
        0 => "builtin",
        _ => "custom",
    };
    filters.any("driver", |driver| driver == network.driver.name())
        && filters.any("id", |id| network.id.starts_with(id))
        && filters.any("name", |name| network.name.contains(name))
        && filters.any("type", |wanted| wanted == kind)
        && filters.labels(&network.labels)
}

/// A network's fields, under Docker's names.
fn fields(network: &NetworkDetail, short: bool) -> Value {
    let created = UNIX_EPOCH + Duration::from_nanos(network.created_at);
    json!({
        "CreatedAt": output::moment(created),
        "Driver": network.driver.name(),
        "ID": if short { &network.id[..SHORT] } else { &network.id },
        "IPv6": network.ipv6.is_some().to_string(),
        "Internal": network.internal.to_string(),
        "Name": network.name,
        "Scope": "local",
    })
}

/// Shows those that there are, and says which are missing.
async fn show(engine: &Engine, args: &NetworkInspectArgs) -> Result<u8> {
    let template = args.format.template()?;
    let (details, status) = several::describe(&args.networks, async |name| {
        let names = Some(vec![name]);
        let found = networks(engine, &Request::Networks { names }).await?;
        Ok(found.iter().map(inspect::network_detail).collect())
    })
    .await;
    match template {
        Some(template) => {
            for detail in &details {
                output::result(template.line(detail)?);
            }
        }
        None => output::result(output::pretty(&Value::from(details))),
    }
    Ok(status)
}

async fn rm(engine: &Engine, args: &NetworkRmArgs) -> Result<u8> {
    let request = |name: &str| Request::RemoveNetwork {
        name: name.to_owned(),
        force: args.force,
    };
    several::ask(engine, &args.networks, request).await
}

async fn prune(engine: &Engine, args: &NetworkPruneArgs) -> Result<u8> {
    if !args.force && !confirmed(&[UNUSED])? {
        return Ok(0);
    }
    let removed = pruned(engine).await?;
    if !removed.is_empty() {
        print_pruned(&removed);
    }
    Ok(0)
}

/// Removes the networks that no container of the engine's has; returns their names.
pub(super) async fn pruned(engine: &Engine) -> Result<Vec<String>> {
    match engine.ask(&Request::PruneNetworks).await? {
        Reply::PrunedNetworks(names) => Ok(names),
        _ => bail!("the agent did not say which networks it removed"),
    }
}

pub(super) fn print_pruned(names: &[String]) {
    output::result("Deleted Networks:");
    for name in names {
        output::result(printable(name));
    }
}

async fn connect(context: &Context, args: &NetworkConnectArgs) -> Result<u8> {
    let request = Request::Connect {
        container: args.container.clone(),
        endpoint: EndpointRequest {
            network: args.network.clone(),
            address: args.ip,
            mac: None,
            aliases: args.alias.clone(),
        },
    };
    change(context, &args.container, &request).await
}

async fn disconnect(context: &Context, args: &NetworkDisconnectArgs) -> Result<u8> {
    let request = Request::Disconnect {
        container: args.container.clone(),
        network: args.network.clone(),
    };
    change(context, &args.container, &request).await
}

/// Changes the networks of a container, wherever it is.
async fn change(context: &Context, container: &str, request: &Request) -> Result<u8> {
    let engine = context.engine_of(container).await?;
    engine.ask(request).await?;
    context.refresh(&engine).await?;
    Ok(0)
}

async fn networks(engine: &Engine, request: &Request) -> Result<Vec<NetworkDetail>> {
    match engine.ask(request).await? {
        Reply::Networks(networks) => Ok(networks),
        _ => bail!("the agent did not describe the networks"),
    }
}
