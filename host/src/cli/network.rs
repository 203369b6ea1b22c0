//! Options about a container's network.

use clap::Args;

/// Options of `run` about the network.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArgs {
    /// Network of the container: bridge, none (loopback only), host, or container:NAME [default: bridge]
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub network: Option<String>,
    /// Publish a port, or a range: [IP:][HOST:]CONTAINER[/tcp|udp] (can be repeated)
    #[arg(short, long, value_name = "[IP:][HOST:]PORT")]
    pub publish: Vec<String>,
    /// Publish all ports that the image or --expose names, by free ones
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Name a port that the container serves, or a range: PORT[/tcp|udp] (can be repeated)
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Address in the network, instead of a free one
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// Ethernet address, instead of one made from the address
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
