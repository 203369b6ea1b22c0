//! Rules of others that are in the way: a packet has to pass all tables, so what one of
//! them drops stays dropped.

use std::io;

use netlink_bindings::nftables::Request;
use netlink_socket2::NetlinkSocket;

use super::batch::{TABLE, header};

/// A chain of somebody else's that drops what the machine passes on, unless it says
/// otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    family: u8,
    table: String,
    chain: String,
}

/// What of tables sees the packets of containers, with nft(8)'s words for it.
const FAMILIES: [(u8, &str); 2] = [
    (nix::libc::NFPROTO_IPV4 as u8, "ip"),
    (nix::libc::NFPROTO_INET as u8, "inet"),
];
/// Of all families.
const EVERY: u8 = nix::libc::NFPROTO_UNSPEC as u8;
/// `NF_DROP`.
const DROP: u32 = 0;

/// The first such chain whose table does not mention `bridge`: where it does, somebody
/// has thought of it.
pub(crate) fn obstacle(bridge: &str) -> io::Result<Option<Obstacle>> {
    for found in dropping()? {
        if !mentions(&found, bridge)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn dropping() -> io::Result<Vec<Obstacle>> {
    let request = Request::new().op_getchain_dump(&header(EVERY));
    let mut socket = NetlinkSocket::new();
    let mut replies = socket.request(&request)?;
    let mut all = Vec::new();
    while let Some(reply) = replies.recv() {
        let (of, chain) = reply.map_err(io::Error::from)?;
        let hook = chain.get_hook().and_then(|hook| hook.get_num());
        let is_forward = hook.is_ok_and(|hook| hook == nix::libc::NF_INET_FORWARD as u32);
        let drops = chain.get_policy().is_ok_and(|policy| policy == DROP);
        let is_known = FAMILIES.iter().any(|(it, _)| *it == of.nfgen_family);
        if let (Ok(table), Ok(name)) = (chain.get_table(), chain.get_name())
            && is_known
            && is_forward
            && drops
            && table != TABLE
        {
            all.push(Obstacle {
                family: of.nfgen_family,
                table: table.to_string_lossy().into_owned(),
                chain: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(all)
}

/// Whether a rule of the chain's table has the name in it.
fn mentions(obstacle: &Obstacle, name: &str) -> io::Result<bool> {
    let mut request = Request::new().op_getrule_dump(&header(obstacle.family));
    request.encode().push_table_bytes(obstacle.table.as_bytes());
    let mut socket = NetlinkSocket::new();
    let mut replies = socket.request(&request)?;
    let mut found = false;
    while let Some(reply) = replies.recv() {
        let (_, rule) = reply.map_err(io::Error::from)?;
        let mut windows = rule.get_buf().windows(name.len());
        found |= windows.any(|window| window == name.as_bytes());
    }
    Ok(found)
}

impl Obstacle {
    /// What a user has to know, in one line.
    pub(crate) fn advice(&self, bridge: &str) -> String {
        format!(
            "{}; let its bridge through: {}",
            self.state(),
            self.remedy(bridge)
        )
    }

    /// What is in the way.
    pub(crate) fn state(&self) -> String {
        let (family, table, chain) = (self.family_name(), &self.table, &self.chain);
        format!(
            "the firewall (chain {chain} of table {family} {table}) drops what this machine passes on, so the container may reach nothing outside"
        )
    }

    /// The commands that let a bridge through.
    pub(crate) fn remedy(&self, bridge: &str) -> String {
        let (family, table, chain) = (self.family_name(), &self.table, &self.chain);
        let rule = |direction| {
            format!("nft insert rule {family} {table} {chain} {direction} {bridge} accept")
        };
        format!("{}; {}", rule("iifname"), rule("oifname"))
    }

    fn family_name(&self) -> &'static str {
        let family = FAMILIES.iter().find(|(it, _)| *it == self.family);
        family.map_or("ip", |(_, name)| name)
    }
}
