//! A network's bridge, and the kernel parameters that it needs.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use super::error::NetError;
use super::links::Links;
use super::naming::{address_of, link_of, mac_of};
use super::network::{BRIDGE_PREFIX, DEFAULT_BRIDGE, Network};
use super::nft;

/// The index of the network's bridge, which is made, or mended, where need be.
pub(super) async fn bridge(links: &Links, network: &Network) -> Result<u32, NetError> {
    let name = &network.bridge;
    let failed = || NetError::kernel(format!("make the bridge {name}"));
    let link = match links.find(name).await.map_err(failed())? {
        Some(link) => link,
        None => {
            match links.add_bridge(name, mac_of(network.gateway)).await {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(failed())?,
            }
            switch_ipv6(network);
            let link = links.find(name).await.map_err(failed())?;
            let link = link.ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?;
            plug_in_again(links, network, link.index)
                .await
                .map_err(failed())?;
            link
        }
    };
    if !link.is_bridge {
        return Err(NetError::NotABridge(name.clone()));
    }
    let prefix = network.subnet.prefix_len();
    let addressed = links.add_address(link.index, network.gateway, prefix);
    addressed.await.map_err(failed())?;
    if let Some((range, gateway)) = network.ipv6.zip(network.ipv6_gateway()) {
        let addressed = links.add_address(link.index, gateway, range.prefix_len());
        addressed.await.map_err(failed())?;
    }
    if !link.is_up {
        links.bring_up(link.index).await.map_err(failed())?;
    }
    if !network.internal {
        forward().map_err(NetError::kernel(
            "let the machine forward packets (net.ipv4.ip_forward)",
        ))?;
    }
    Ok(link.index)
}

/// Has the bridge speak IPv6 where the network does, without ever believing what a
/// container says about routes. Not fatal where the machine has no IPv6: addresses fail.
fn switch_ipv6(network: &Network) {
    let set = |name: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{name}", network.bridge);
        let _ = fs::write(path, value);
    };
    set("accept_ra", "0");
    set(
        "disable_ipv6",
        if network.ipv6.is_some() { "0" } else { "1" },
    );
}

/// Puts the cables of running containers into the bridge when it is made anew.
async fn plug_in_again(links: &Links, network: &Network, bridge: u32) -> io::Result<()> {
    for address in taken()?.into_iter().filter(|&it| network.may_give(it)) {
        if let Some(link) = links.find(&link_of(address)).await? {
            links.plug_in(link.index, bridge).await?;
        }
    }
    Ok(())
}

/// Has the machine pass packets on between its links, if it does not yet.
fn forward() -> io::Result<()> {
    const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
    match fs::read_to_string(SWITCH)?.trim() {
        "1" => Ok(()),
        _ => fs::write(SWITCH, "1"),
    }
}

/// Whether the machine passes on IPv6, too. That is for its owner to decide: a machine
/// that does takes no routes from its own router any more.
pub(super) fn forwards_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")
        .is_ok_and(|switch| switch.trim() == "1")
}

/// The addresses of all containers that are attached anywhere on this machine.
pub(super) fn taken() -> io::Result<HashSet<Ipv4Addr>> {
    Ok(link_names()?
        .iter()
        .filter_map(|name| address_of(name))
        .collect())
}

/// The links of the caller's network namespace.
fn link_names() -> io::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

/// Removes what a network has on this machine: nobody is in it.
pub(super) async fn remove(network: &Network) -> io::Result<()> {
    let links = Links::open()?;
    if let Some(link) = links.find(&network.bridge).await?
        && link.is_bridge
    {
        links.remove(link.index).await?;
    }
    nft::forget(network)
}

/// Removes all bridges and rules of this program's where no container is attached to
/// any of them. The next start makes what it needs.
pub(super) async fn remove_all_unused() -> io::Result<()> {
    let names = link_names()?;
    if names.iter().any(|name| address_of(name).is_some()) {
        return Ok(());
    }
    let links = Links::open()?;
    let is_ours = |name: &&String| *name == DEFAULT_BRIDGE || name.starts_with(BRIDGE_PREFIX);
    for name in names.iter().filter(is_ours) {
        if let Some(link) = links.find(name).await?
            && link.is_bridge
        {
            links.remove(link.index).await?;
        }
    }
    nft::remove_all()
}
