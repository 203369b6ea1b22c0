//! Which names there are: those of the containers that share a network.

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use isolazi_protocol::{Endpoint, HostAddress, NetworkMember, NetworkState};

use super::answer::{Found, Question};
use super::upstream::Upstream;
use crate::net::bridge::taken;
use crate::net::host::host_of;
use crate::net::members::Members;

/// The names of the host, the second for those who are used to it.
pub(crate) const HOST_NAMES: [&str; 2] = ["host.isolazi.internal", "host.docker.internal"];

/// What has changed within the system's tick may change again without a trace.
const TICK: Duration = Duration::from_millis(20);

/// What was last read, and as of when.
type Known = (SystemTime, Rc<Vec<NetworkMember>>);

/// Whom a container can ask about.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    members: Members,
    known: Rc<RefCell<Option<Known>>>,
    host: HostAddress,
    upstream: Rc<Upstream>,
}

impl Directory {
    /// The containers of the engine whose networks are described in `networks`.
    pub(crate) fn new(networks: &Path, host: HostAddress, upstream: Upstream) -> Self {
        Self {
            members: Members::of(networks),
            known: Rc::default(),
            host,
            upstream: Rc::new(upstream),
        }
    }

    /// Whom to ask about everything else.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The answer for a container in the networks of `state`, where there is one here.
    pub(super) fn resolve(&self, question: &Question, state: &NetworkState) -> Option<Found> {
        if let Some(address) = question.address() {
            return self.name_of(address, state).map(Found::Name);
        }
        let name = question.name()?;
        if HOST_NAMES.contains(&name.as_str()) {
            let outward = state.outward()?;
            let host = host_of(self.host, outward);
            return Some(Found::Addresses(vec![host.into()]));
        }
        let addresses = self.addresses(&name, state);
        (!addresses.is_empty()).then_some(Found::Addresses(addresses))
    }

    /// All who bear the name in a network of the container's.
    fn addresses(&self, name: &str, state: &NetworkState) -> Vec<IpAddr> {
        let members = self.members();
        let named = neighbours(&members, state).filter(|member| is_called(member, name));
        let named: Vec<&NetworkMember> = named.collect();
        if named.is_empty() {
            return Vec::new();
        }
        // Those who were killed are not there any more.
        let taken = taken().unwrap_or_default();
        let alive = named.into_iter().map(|member| &member.endpoint);
        let alive = alive.filter(|endpoint| taken.contains(&endpoint.address));
        alive.flat_map(addresses).collect()
    }

    fn name_of(&self, address: IpAddr, state: &NetworkState) -> Option<String> {
        let members = self.members();
        let has_it = |member: &&NetworkMember| addresses(&member.endpoint).any(|it| it == address);
        let member = neighbours(&members, state).find(has_it)?;
        Some(format!("{}.{}", member.name, member.endpoint.network))
    }

    fn members(&self) -> Rc<Vec<NetworkMember>> {
        let changed = self.members.changed_at();
        if let Some((as_of, members)) = &*self.known.borrow()
            && Some(*as_of) == changed
        {
            return Rc::clone(members);
        }
        let members = Rc::new(self.members.entries());
        let is_settled = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > TICK);
        let keep = changed
            .filter(is_settled)
            .map(|at| (at, Rc::clone(&members)));
        self.known.replace(keep);
        members
    }
}

/// Those who share a network with the container in those of `state`.
fn neighbours<'a>(
    members: &'a [NetworkMember],
    state: &'a NetworkState,
) -> impl Iterator<Item = &'a NetworkMember> {
    members.iter().filter(|member| {
        let mut own = state.endpoints.iter();
        own.any(|endpoint| shares(endpoint, &member.endpoint))
    })
}

/// Whether two are in one network, of those in which there are names.
fn shares(one: &Endpoint, other: &Endpoint) -> bool {
    one.network == other.network && one.network != isolazi_protocol::DEFAULT_NETWORK
}

/// By its name, the short form of its id, or an alias; with the network's name behind it
/// or without.
fn is_called(member: &NetworkMember, name: &str) -> bool {
    let is_own = |name: &str| {
        let own = [member.name.as_str(), member.container.short()];
        let aliases = member.endpoint.aliases.iter().map(String::as_str);
        own.into_iter()
            .chain(aliases)
            .any(|it| it.eq_ignore_ascii_case(name))
    };
    let network = &member.endpoint.network;
    let bare = name.rsplit_once('.');
    let bare = bare.filter(|(_, last)| network.eq_ignore_ascii_case(last));
    is_own(name) || bare.is_some_and(|(bare, _)| is_own(bare))
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let ipv6 = endpoint.ipv6.map(|it| it.address.into());
    [endpoint.address.into()].into_iter().chain(ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isolazi_protocol::{ContainerId, MacAddress};

    fn member() -> NetworkMember {
        NetworkMember {
            container: ContainerId::from_random(&[0xab; 32]),
            name: "Web_1".to_owned(),
            endpoint: Endpoint {
                network: "front".to_owned(),
                interface: "eth0".to_owned(),
                address: [172, 21, 0, 2].into(),
                prefix: 24,
                gateway: [172, 21, 0, 1].into(),
                internal: false,
                mac: MacAddress([2, 0, 0, 0, 0, 1]),
                aliases: vec!["www".to_owned(), "a.b".to_owned()],
                ipv6: None,
            },
        }
    }

    #[test]
    fn a_container_is_called_by_name_id_or_alias() {
        for name in [
            "web_1",
            "abababababab",
            "www",
            "a.b",
            "www.front",
            "web_1.front",
        ] {
            assert!(is_called(&member(), name), "{name}");
        }
        for name in ["web", "www.back", "front", "", "ababab", "www.front.org"] {
            assert!(!is_called(&member(), name), "{name}");
        }
    }

    #[test]
    fn names_are_for_those_who_share_a_network() {
        let one = member().endpoint;
        let mut other = one.clone();
        assert!(shares(&one, &other));
        other.network = "back".to_owned();
        assert!(!shares(&one, &other));
        let mut default = one;
        default.network = isolazi_protocol::DEFAULT_NETWORK.to_owned();
        assert!(!shares(&default, &default));
    }
}
