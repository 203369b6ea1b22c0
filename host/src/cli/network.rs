//! Options about a container's network.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::FormatArgs;

/// Options of `run` about the network.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArgs {
    /// Network of the container: bridge, one of 'isolazi network ls' (can be repeated), none (loopback only), host, or container:NAME [default: bridge]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Name that the container has in its first network, beside its own (can be repeated)
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Publish a port, or a range: [IP:][HOST:]CONTAINER[/tcp|udp] (can be repeated)
    #[arg(short, long, value_name = "[IP:][HOST:]PORT")]
    pub publish: Vec<String>,
    /// Publish all ports that the image or --expose names, by free ones
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Name a port that the container serves, or a range: PORT[/tcp|udp] (can be repeated)
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Address in the first network, instead of a free one
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// Ethernet address in the first network, instead of one made from the address
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
}

/// `isolazi port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Id, start of an id, or name
    pub container: String,
    /// Show only what leads to this port: PORT[/tcp|udp]
    #[arg(value_name = "PORT")]
    pub port: Option<String>,
}

/// The verbs of `isolazi network`.
#[derive(Debug, Clone, Subcommand)]
pub enum NetworkCommand {
    /// Make a network
    Create(NetworkCreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(NetworkLsArgs),
    /// Display details of networks as JSON
    Inspect(NetworkInspectArgs),
    /// Remove networks that no running container is in
    #[command(visible_alias = "remove")]
    Rm(NetworkRmArgs),
    /// Remove all networks that no container has, and what else of networks nobody uses
    Prune(NetworkPruneArgs),
    /// Let a container join a network
    Connect(NetworkConnectArgs),
    /// Take a container off a network
    Disconnect(NetworkDisconnectArgs),
}

/// `isolazi network create`.
#[derive(Debug, Clone, Args)]
pub struct NetworkCreateArgs {
    /// What makes the network; there is only one
    #[arg(short, long, value_name = "DRIVER", value_parser = ["bridge"], default_value = "bridge", hide_possible_values = true)]
    pub driver: String,
    /// Addresses of the network: IPv4, and IPv6 where that is wanted (once each) [default: free ones]
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub subnet: Vec<IpNet>,
    /// Address of this machine in the network [default: the first one]
    #[arg(long, value_name = "IP")]
    pub gateway: Option<Ipv4Addr>,
    /// Let nothing out of the network, nor in
    #[arg(long)]
    pub internal: bool,
    /// Give it IPv6 addresses, too
    #[arg(long)]
    pub ipv6: bool,
    /// Set a label (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Name of the network
    pub name: String,
}

/// `isolazi network ls`.
#[derive(Debug, Clone, Args)]
pub struct NetworkLsArgs {
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show ids in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Show only what fits: driver=, id=, label=, name=, type=custom or builtin (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print in this form: json, table, 'table TEMPLATE', or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `isolazi network inspect`.
#[derive(Debug, Clone, Args)]
pub struct NetworkInspectArgs {
    /// In which form.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Names, ids, or starts of ids
    #[arg(required = true)]
    pub networks: Vec<String>,
}

/// `isolazi network rm`.
#[derive(Debug, Clone, Args)]
pub struct NetworkRmArgs {
    /// Networks that do not exist are no error
    #[arg(short, long)]
    pub force: bool,
    /// Names, ids, or starts of ids
    #[arg(required = true)]
    pub networks: Vec<String>,
}

/// `isolazi network prune`.
#[derive(Debug, Clone, Args)]
pub struct NetworkPruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// `isolazi network connect`.
#[derive(Debug, Clone, Args)]
pub struct NetworkConnectArgs {
    /// Name that the container has there, beside its own (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Address, instead of a free one
    #[arg(long, value_name = "IP")]
    pub ip: Option<Ipv4Addr>,
    /// Name, id, or start of an id
    pub network: String,
    /// Id, start of an id, or name
    pub container: String,
}

/// `isolazi network disconnect`.
#[derive(Debug, Clone, Args)]
pub struct NetworkDisconnectArgs {
    /// Accepted as others have it; makes no difference
    #[arg(short, long)]
    pub force: bool,
    /// Name, id, or start of an id
    pub network: String,
    /// Id, start of an id, or name
    pub container: String,
}
