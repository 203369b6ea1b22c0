//! `isolazi port`: how a container's ports are reached.

use anyhow::{Result, bail};
use isolazi_protocol::{ExposedPort, PublishedPort, Reply, Request};

use crate::cli::PortArgs;
use crate::commands::Context;
use crate::options;
use crate::output;

pub(super) async fn port(context: &Context, args: &PortArgs) -> Result<()> {
    let only = args.port.as_deref().map(one_port).transpose()?;
    let engine = context.engine_of(&args.container).await?;
    let request = Request::Inspect {
        container: args.container.clone(),
    };
    let Reply::Container(detail) = engine.ask(&request).await? else {
        bail!("the agent did not describe the container");
    };
    let mut ports = detail.network.ports;
    ports.sort_unstable();
    match only {
        None => ports.iter().for_each(|port| output::result(line(port))),
        Some(only) => {
            ports.retain(|port| port.target == only);
            if ports.is_empty() {
                bail!(
                    "port {only} of container {} is not published; run it with -p {only}",
                    args.container
                );
            }
            ports.iter().for_each(|port| output::result(place(port)));
        }
    }
    Ok(())
}

fn one_port(text: &str) -> Result<ExposedPort> {
    match options::exposed_ports(text)?[..] {
        [port] => Ok(port),
        _ => bail!("'{text}' is more than one port; give one, such as 80 or 53/udp"),
    }
}

fn line(port: &PublishedPort) -> String {
    format!("{} -> {}", port.target, place(port))
}

/// `ADDRESS:PORT`, with brackets where the address has colons itself.
fn place(port: &PublishedPort) -> String {
    std::net::SocketAddr::new(port.address, port.host_port).to_string()
}
