//! What the kernel does with the packets of containers: nftables, by netlink.

mod batch;
mod expression;
mod identities;
mod others;
mod ruleset;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use isolazi_protocol::{Endpoint, MacAddress, PortProtocol, PublishedPort};

pub(crate) use self::others::obstacle;

use self::batch::{Batch, Member, Range, count_rules, members};
use self::identities::{OWNERS, OWNERS_BY_IPV6, STATIONS};
use self::ruleset::{BRIDGES, Family, INTERNAL, PORTS, PORTS_AT, SAME, SUBNETS};
use super::naming::{LINK_PREFIX, link_local_of, link_of};
use super::network::Network;

const LINKS: &[u8] = LINK_PREFIX.as_bytes();

/// A container in a network, as the rules know it.
#[derive(Debug, Clone)]
pub(super) struct Station<'a> {
    /// The machine's end of its cable.
    pub(super) link: String,
    mac: MacAddress,
    address: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
    /// Only those on IPv4 addresses are the kernel's business.
    ports: &'a [PublishedPort],
}

/// So often a change is tried that somebody else has got ahead of.
const TRIES: usize = 5;

/// Makes what is missing of the rules, and lets each station into its network under
/// them. What an earlier owner of its address or its ports may have left is removed.
pub(super) fn admit(stations: &[(&Network, Station<'_>)]) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match try_admit(stations) {
            // What was to be removed has just been.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

fn try_admit(stations: &[(&Network, Station<'_>)]) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.lay_out(Family::Ip)?;
    batch.lay_out(Family::Bridge)?;
    if stations.iter().any(|(network, _)| network.ipv6.is_some()) {
        batch.lay_out(Family::Ip6)?;
    }
    for (network, station) in stations {
        batch.add_network(network)?;
        batch.add_station(station)?;
    }
    batch.commit()
}

/// Takes back what [`admit`] made for `station` alone.
pub(super) fn dismiss(station: &Station<'_>) -> io::Result<()> {
    let changes = station.members();
    let mut batch = Batch::new();
    for (family, set, members) in &changes {
        batch.remove(*family, set, members);
    }
    match batch.commit() {
        // Something of it is gone already, and with it this whole change.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    for (family, set, members) in &changes {
        let mut batch = Batch::new();
        batch.remove(*family, set, members);
        batch.commit_if_there()?;
    }
    Ok(())
}

/// Takes back what [`admit`] made for `network` alone.
pub(super) fn forget(network: &Network) -> io::Result<()> {
    for (family, set, member) in names_of(network) {
        let mut batch = Batch::new();
        batch.remove(family, set, &[member]);
        batch.commit_if_there()?;
    }
    for (family, range) in ranges_of(network) {
        let mut batch = Batch::new();
        batch.remove_range(family, SUBNETS, &range);
        batch.commit_if_there()?;
    }
    Ok(())
}

/// Removes all rules, and whatever they know.
pub(super) fn remove_all() -> io::Result<()> {
    for family in [Family::Ip, Family::Ip6, Family::Bridge] {
        let mut batch = Batch::new();
        batch.remove_table(family);
        batch.commit_if_there()?;
    }
    Ok(())
}

/// Sends what is for `from` to `to` instead, for programs in the caller's network
/// namespace, which is a container's.
pub(super) fn redirect_within(from: SocketAddrV4, to: [(PortProtocol, u16); 2]) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.table(Family::Ip);
    for (id, set) in ruleset::sets(Family::Ip).iter().enumerate() {
        if set.name == PORTS_AT {
            batch.set(Family::Ip, set, id as u32 + 1);
        }
    }
    batch.chain(Family::Ip, &ruleset::redirections());
    let members = to.map(|(kind, port)| Member {
        key: [
            &from.ip().octets()[..],
            &protocol(kind),
            &service(from.port()),
        ]
        .concat(),
        data: Some([&from.ip().octets()[..], &service(port)].concat()),
    });
    batch.replace(Family::Ip, PORTS_AT, |_| true, &members)?;
    batch.commit()
}

impl Batch {
    /// Makes a family's table, sets, chains and rules, unless they are all there.
    fn lay_out(&mut self, family: Family) -> io::Result<()> {
        let chains = ruleset::chains(family);
        let wanted = chains.iter().map(|chain| chain.rules.len()).sum();
        if count_rules(family)? == (wanted, 0) {
            return Ok(());
        }
        self.table(family);
        for (id, set) in ruleset::sets(family).iter().enumerate() {
            self.set(family, set, id as u32 + 1);
        }
        for chain in &chains {
            self.chain(family, chain);
        }
        Ok(())
    }

    fn add_network(&mut self, network: &Network) -> io::Result<()> {
        for (family, set, member) in names_of(network) {
            self.add(family, set, &[member]);
        }
        for (family, range) in ranges_of(network) {
            // A range that is there cannot be added again.
            if !members(family, SUBNETS)?.contains(&range.first) {
                self.add_range(family, SUBNETS, &range);
            }
        }
        Ok(())
    }

    fn add_station(&mut self, station: &Station<'_>) -> io::Result<()> {
        let address = station.address.octets();
        let link = ruleset::name(&station.link);
        for (family, set, wanted) in station.members() {
            let stale = |member: &Member| {
                let is_ours = match &member.data {
                    Some(target) => target.starts_with(&address),
                    None => member.key.starts_with(&link),
                };
                is_ours || wanted.iter().any(|it| it.key == member.key)
            };
            self.replace(family, set, stale, &wanted)?;
        }
        Ok(())
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

/// The sets that have a network's bridge.
fn names_of(network: &Network) -> Vec<(Family, &'static str, Member)> {
    let bridge = ruleset::name(&network.bridge);
    let ipv6 = network.ipv6.map(|_| Family::Ip6);
    let mut all = Vec::new();
    for family in [Family::Ip].into_iter().chain(ipv6) {
        all.push((family, BRIDGES, plain(&bridge)));
        all.push((family, SAME, plain(&[bridge, bridge].concat())));
        if network.internal {
            all.push((family, INTERNAL, plain(&bridge)));
        }
    }
    all
}

/// The addresses of a network that lead outside.
fn ranges_of(network: &Network) -> Vec<(Family, Range)> {
    if network.internal {
        return Vec::new();
    }
    let range = |first: &[u8], beyond: &[u8]| Range {
        first: plain(first),
        beyond: beyond.to_vec(),
    };
    let (base, last) = (network.subnet.network(), network.subnet.broadcast());
    let beyond = last.to_bits().wrapping_add(1);
    let ipv4 = (Family::Ip, range(&base.octets(), &beyond.to_be_bytes()));
    let ipv6 = network.ipv6.map(|all| {
        let beyond = all.broadcast().to_bits().wrapping_add(1);
        let range = range(&all.network().octets(), &beyond.to_be_bytes());
        (Family::Ip6, range)
    });
    [ipv4].into_iter().chain(ipv6).collect()
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
            ipv6: endpoint.ipv6.map(|it| it.address),
            ports,
        }
    }

    /// What the sets and maps have of it.
    fn members(&self) -> [(Family, &'static str, Vec<Member>); 5] {
        let [everywhere, at_one] = self.redirections();
        let [a, b, c, d, e, f] = self.mac.0;
        // Every part of a key fills whole registers.
        let station = [&ruleset::name(&self.link)[..], &[a, b, c, d, e, f, 0, 0]].concat();
        let owner = |address: &[u8]| plain(&[&station[..], address].concat());
        let by_ipv6 = self.ipv6.map(|address| [address, link_local_of(self.mac)]);
        let by_ipv6 = by_ipv6.iter().flatten().map(|it| owner(&it.octets()));
        [
            (Family::Ip, PORTS, everywhere),
            (Family::Ip, PORTS_AT, at_one),
            (Family::Bridge, STATIONS, vec![plain(&station)]),
            (Family::Bridge, OWNERS, vec![owner(&self.address.octets())]),
            (Family::Bridge, OWNERS_BY_IPV6, by_ipv6.collect()),
        ]
    }

    /// Its members of the two maps of ports.
    fn redirections(&self) -> [Vec<Member>; 2] {
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
        [everywhere, at_one]
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
