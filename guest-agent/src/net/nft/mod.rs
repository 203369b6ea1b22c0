//! What the kernel does with the packets of containers: nftables, by netlink.

mod batch;
mod expression;
mod ruleset;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use isolazi_protocol::{Endpoint, MacAddress, PortProtocol, PublishedPort};

use self::batch::{Batch, Member, members};
use self::ruleset::{BRIDGES, Family, OWNERS, PORTS, PORTS_AT, SAME, STATIONS, SUBNETS};
use super::network::Network;
use super::subnet::{LINK_PREFIX, link_of};

const LINKS: &[u8] = LINK_PREFIX.as_bytes();

/// A container as the rules know it.
#[derive(Debug, Clone)]
pub(super) struct Station<'a> {
    /// The machine's end of its cable.
    pub(super) link: String,
    mac: MacAddress,
    address: Ipv4Addr,
    /// Only those on IPv4 addresses are the kernel's business.
    ports: &'a [PublishedPort],
}

/// So often a change is tried that somebody else has got ahead of.
const TRIES: usize = 5;

/// Makes what is missing of the rules, and lets `station` into `network` under them.
/// What an earlier owner of its address or its ports may have left is removed.
pub(super) fn admit(network: &Network, station: &Station<'_>) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match try_admit(network, station) {
            // What was to be removed has just been.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

fn try_admit(network: &Network, station: &Station<'_>) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.lay_out(Family::Ip);
    let bridge = ruleset::name(&network.bridge);
    batch.add(Family::Ip, BRIDGES, &[plain(&bridge)]);
    batch.add(Family::Ip, SAME, &[plain(&[bridge, bridge].concat())]);
    add_subnet(&mut batch, network)?;
    for (map, wanted) in station.maps() {
        let stale = |member: &Member| {
            let is_ours = member
                .data
                .as_ref()
                .is_some_and(|data| data.starts_with(&station.address.octets()));
            is_ours || wanted.iter().any(|it| it.key == member.key)
        };
        batch.replace(Family::Ip, map, stale, &wanted)?;
    }
    batch.commit()?;
    let mut batch = Batch::new();
    batch.lay_out(Family::Bridge);
    let link = ruleset::name(&station.link);
    for (set, wanted) in station.identities() {
        let stale = |member: &Member| member.key.starts_with(&link);
        batch.replace(Family::Bridge, set, stale, &[wanted])?;
    }
    batch.commit()
}

/// Takes back what [`admit`] made for `station` alone.
pub(super) fn dismiss(station: &Station<'_>) -> io::Result<()> {
    let mut batch = Batch::new();
    for (map, members) in station.maps() {
        batch.remove(Family::Ip, map, &members);
    }
    batch.commit_if_there()?;
    let mut batch = Batch::new();
    for (set, member) in station.identities() {
        batch.remove(Family::Bridge, set, &[member]);
    }
    batch.commit_if_there()
}

impl Batch {
    /// Makes a family's table, sets, chains and rules.
    fn lay_out(&mut self, family: Family) {
        self.table(family);
        for (id, set) in ruleset::sets(family).iter().enumerate() {
            self.set(family, set, id as u32 + 1);
        }
        for chain in ruleset::chains(family) {
            self.chain(family, &chain);
        }
    }

    /// Adds `wanted`, after removing what is `stale` of what is there.
    fn replace(
        &mut self,
        family: Family,
        set: &str,
        stale: impl Fn(&Member) -> bool,
        wanted: &[Member],
    ) -> io::Result<()> {
        let there = members(family, set)?;
        let (stale, _): (Vec<_>, Vec<_>) = there.into_iter().partition(stale);
        self.remove(family, set, &stale);
        self.add(family, set, wanted);
        Ok(())
    }

    /// Commits a removal. That nothing is left to remove is fine.
    fn commit_if_there(self) -> io::Result<()> {
        match self.commit() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// A range is its first address, and a mark at the first one beyond.
fn add_subnet(batch: &mut Batch, network: &Network) -> io::Result<()> {
    let base = network.subnet.base();
    let first = plain(&base.octets());
    let is_there = members(Family::Ip, SUBNETS)?.contains(&first);
    if !is_there {
        let beyond = u32::from(network.subnet.broadcast()).wrapping_add(1);
        batch.add_range(Family::Ip, SUBNETS, &first, &plain(&beyond.to_be_bytes()));
    }
    Ok(())
}

fn plain(key: &[u8]) -> Member {
    Member {
        key: key.to_vec(),
        data: None,
    }
}

impl<'a> Station<'a> {
    /// The one at `endpoint`.
    pub(super) fn new(endpoint: &Endpoint, ports: &'a [PublishedPort]) -> Self {
        Self {
            link: link_of(endpoint.address),
            mac: endpoint.mac,
            address: endpoint.address,
            ports,
        }
    }

    /// Its members of the two maps of ports.
    fn maps(&self) -> [(&'static str, Vec<Member>); 2] {
        let mut everywhere = Vec::new();
        let mut at_one = Vec::new();
        for port in self.ports {
            let IpAddr::V4(address) = port.address else {
                continue;
            };
            let data = [&self.address.octets()[..], &service(port.target.port)].concat();
            let key = [protocol(port.target.protocol), service(port.host_port)].concat();
            let (list, key) = match address {
                Ipv4Addr::UNSPECIFIED => (&mut everywhere, key),
                address if address.is_loopback() => continue,
                address => (&mut at_one, [&address.octets()[..], &key].concat()),
            };
            let data = Some(data);
            list.push(Member { key, data });
        }
        [(PORTS, everywhere), (PORTS_AT, at_one)]
    }

    /// Its members of the sets of who is who.
    fn identities(&self) -> [(&'static str, Member); 2] {
        let [a, b, c, d, e, f] = self.mac.0;
        // Every part of a key fills whole registers.
        let station = [&ruleset::name(&self.link)[..], &[a, b, c, d, e, f, 0, 0]].concat();
        let owner = [&station[..], &self.address.octets()].concat();
        [(STATIONS, plain(&station)), (OWNERS, plain(&owner))]
    }
}

fn protocol(protocol: PortProtocol) -> [u8; 4] {
    let number = match protocol {
        PortProtocol::Tcp => nix::libc::IPPROTO_TCP,
        PortProtocol::Udp => nix::libc::IPPROTO_UDP,
    };
    [number as u8, 0, 0, 0]
}

fn service(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
