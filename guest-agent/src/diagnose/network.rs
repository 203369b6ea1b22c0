//! What containers' networks take. Tried in a network namespace of a thread's own,
//! which ends with it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use isolazi_protocol::{Finding, Grade};
use nix::sched::{CloneFlags, unshare};

use super::kernel::read;
use crate::net;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = match std::thread::spawn(try_out).join() {
        Ok(Ok(())) => vec![Finding::good("network", "bridges, cables and nftables")],
        Ok(Err(Lack {
            what,
            error,
            remedy,
        })) => {
            let state = format!("{what}: {error}");
            vec![Finding::bad("network", Grade::Lacking, state, remedy)]
        }
        Err(_) => Vec::new(),
    };
    findings.extend(forwarding(
        &read("/proc/sys/net/ipv4/ip_forward"),
        fs::exists("/sys/class/net/isolazi0").unwrap_or(false),
    ));
    findings.extend(firewall());
    findings
}

struct Lack {
    what: &'static str,
    error: io::Error,
    remedy: &'static str,
}

fn lack(what: &'static str, remedy: &'static str) -> impl FnOnce(io::Error) -> Lack {
    move |error| Lack {
        what,
        error,
        remedy,
    }
}

fn try_out() -> Result<(), Lack> {
    const BRIDGE: &str = "load it with: modprobe bridge veth (CONFIG_BRIDGE, CONFIG_VETH)";
    const NFTABLES: &str =
        "load it with: modprobe nf_tables nft_nat nft_redir (CONFIG_NF_TABLES, CONFIG_NFT_NAT)";
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let remedy = "run as root, or let users make user namespaces";
        lack("no network namespace can be made", remedy)(errno.into())
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(lack("no runtime", "try again"))?;
    runtime
        .block_on(net::try_links())
        .map_err(lack("no bridge or cable can be made", BRIDGE))?;
    let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    net::try_rules(from).map_err(lack("no address can be translated", NFTABLES))
}

fn forwarding(switch: &str, has_bridge: bool) -> Option<Finding> {
    const SUBJECT: &str = "forwarding";
    match (switch, has_bridge) {
        ("1", _) => Some(Finding::good(SUBJECT, "on (net.ipv4.ip_forward)")),
        ("0", false) => Some(Finding::good(
            SUBJECT,
            "off; the first container with a network of its own switches it on (net.ipv4.ip_forward)",
        )),
        ("0", true) => Some(Finding::bad(
            SUBJECT,
            Grade::Lacking,
            "off, although there is a bridge, so containers reach nothing outside",
            "switch it on: sysctl -w net.ipv4.ip_forward=1",
        )),
        _ => None,
    }
}

fn firewall() -> Option<Finding> {
    const SUBJECT: &str = "firewall";
    match net::firewall_advice() {
        Ok(None) => Some(Finding::good(SUBJECT, "none in the way")),
        Ok(Some((state, remedy))) => Some(Finding::bad(SUBJECT, Grade::Lacking, state, remedy)),
        // Who may not look at it has a network of his own.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_matters_once_there_is_a_bridge() {
        let grade = |switch, bridge| forwarding(switch, bridge).map(|it| it.grade);
        assert_eq!(grade("1", true), Some(Grade::Good));
        assert_eq!(grade("0", false), Some(Grade::Good));
        assert_eq!(grade("0", true), Some(Grade::Lacking));
        assert_eq!(grade("", true), None);
    }

    #[test]
    fn trying_out_leaves_this_namespace_alone() {
        let links = || read("/proc/net/dev");
        let names = |table: String| table.lines().count();
        let before = names(links());
        let found = findings();
        assert_eq!(names(links()), before);
        assert!(found.iter().any(|it| it.subject == "network"));
    }
}
