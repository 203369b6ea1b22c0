//! Which addresses a network can have.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use isolazi_protocol::ErrorCode;

use super::routes::Route;

/// Why a network cannot have its addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllocationError {
    /// Not a range for a network.
    #[error("{subnet} cannot be a network's: {why}; choose another with --subnet")]
    Unfit {
        /// The range.
        subnet: String,
        /// Why not.
        why: String,
    },
    /// An address that the machine cannot have.
    #[error(
        "{gateway} cannot be the gateway of {subnet}; choose an address of it, not the first or last, with --gateway"
    )]
    BadGateway {
        /// The address.
        gateway: Ipv4Addr,
        /// The network's range.
        subnet: Ipv4Net,
    },
    /// Another network has some of it.
    #[error("{subnet} overlaps with network {network} ({other}); choose another with --subnet")]
    Overlaps {
        /// The range.
        subnet: Ipv4Net,
        /// The other network.
        network: String,
        /// Its range.
        other: Ipv4Net,
    },
    /// The machine knows a way to some of it.
    #[error(
        "{subnet} is in use on this machine ({link} has {other}); choose another with --subnet"
    )]
    Routed {
        /// The range.
        subnet: Ipv4Net,
        /// Where it leads.
        link: String,
        /// What is routed there.
        other: Ipv4Net,
    },
    /// There are so many networks already.
    #[error(
        "no addresses are left for a network; remove some (isolazi network prune) or name them with --subnet"
    )]
    Exhausted,
}

impl AllocationError {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Unfit { .. } | Self::BadGateway { .. } => ErrorCode::InvalidArgument,
            Self::Overlaps { .. } | Self::Routed { .. } | Self::Exhausted => ErrorCode::Conflict,
        }
    }
}

/// The longest ones leave room for a gateway and a container, and by IPv6 for an IPv4
/// address.
const PREFIXES: RangeInclusive<u8> = 8..=30;
const IPV6_PREFIXES: RangeInclusive<u8> = 16..=96;

/// Networks get ranges of so many bits, of those that are nobody's on the Internet
/// (RFC 1918), next to the default network's.
const PREFIX: u8 = 24;
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 21, 0, 0);
const LAST: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 0);

/// A range that nothing else has.
pub(super) fn free(
    networks: &[(String, Ipv4Net)],
    routes: &[Route],
) -> Result<Ipv4Net, AllocationError> {
    let step = 1 << (32 - PREFIX);
    (FIRST.to_bits()..=LAST.to_bits())
        .step_by(step)
        .filter_map(|base| Ipv4Net::new(base.into(), PREFIX).ok())
        .find(|&range| check(range, networks, routes).is_ok())
        .ok_or(AllocationError::Exhausted)
}

/// Whether a network can have this range beside what there is.
pub(super) fn check(
    subnet: Ipv4Net,
    networks: &[(String, Ipv4Net)],
    routes: &[Route],
) -> Result<(), AllocationError> {
    let base = subnet.addr();
    let first = base.octets()[0];
    let is_special = base.is_loopback() || base.is_multicast() || first >= 240 || first == 0;
    fit(subnet.into(), PREFIXES, is_special)?;
    let overlaps = |other: &Ipv4Net| subnet.contains(other) || other.contains(&subnet);
    if let Some((network, other)) = networks.iter().find(|(_, other)| overlaps(other)) {
        return Err(AllocationError::Overlaps {
            subnet,
            network: network.clone(),
            other: *other,
        });
    }
    match routes.iter().find(|route| overlaps(&route.range)) {
        None => Ok(()),
        Some(route) => Err(AllocationError::Routed {
            subnet,
            link: route.link.clone(),
            other: route.range,
        }),
    }
}

/// The machine's address in the range: the one that is asked for, or the first.
pub(super) fn gateway(
    subnet: Ipv4Net,
    wanted: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, AllocationError> {
    let first = Ipv4Addr::from(subnet.network().to_bits().saturating_add(1));
    let gateway = wanted.unwrap_or(first);
    let is_inside = subnet.contains(&gateway);
    match is_inside && gateway != subnet.network() && gateway != subnet.broadcast() {
        true => Ok(gateway),
        false => Err(AllocationError::BadGateway { gateway, subnet }),
    }
}

/// A network's IPv6 addresses: those that are asked for, or made up from the network's
/// id as RFC 4193 has it.
pub(super) fn ipv6(wanted: Option<Ipv6Net>, id: &str) -> Result<Ipv6Net, AllocationError> {
    let Some(range) = wanted else {
        let global = u64::from_str_radix(&id[..10], 16).unwrap_or_default();
        let base = (0xfd_u128 << 40 | u128::from(global)) << 80;
        return Ok(Ipv6Net::new_assert(Ipv6Addr::from(base), 64));
    };
    let base = range.addr();
    let is_own = base.is_loopback() || base.is_unspecified();
    let is_special = is_own || base.is_multicast() || base.is_unicast_link_local();
    fit(range.into(), IPV6_PREFIXES, is_special)?;
    Ok(range)
}

/// Whether a range of either family is one for a network.
fn fit(
    range: IpNet,
    prefixes: RangeInclusive<u8>,
    is_special: bool,
) -> Result<(), AllocationError> {
    let why = if range.trunc() != range {
        "its address has bits behind the prefix".to_owned()
    } else if !prefixes.contains(&range.prefix_len()) {
        let (least, most) = prefixes.into_inner();
        format!("its prefix must be from {least} to {most}")
    } else if is_special {
        "such addresses are for something else".to_owned()
    } else {
        return Ok(());
    };
    let subnet = range.to_string();
    Err(AllocationError::Unfit { subnet, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_that_are_taken_are_passed_over() {
        let networks = [("one".to_owned(), net("172.21.0.0/24"))];
        let routes = [Route {
            link: "eth0".to_owned(),
            range: net("172.21.0.0/22"),
            gateway: None,
            metric: 0,
        }];
        assert_eq!(free(&networks, &[]).unwrap(), net("172.21.1.0/24"));
        assert_eq!(free(&networks, &routes).unwrap(), net("172.21.4.0/24"));
        let all = [("all".to_owned(), net("172.16.0.0/12"))];
        assert!(matches!(free(&all, &[]), Err(AllocationError::Exhausted)));
    }

    #[test]
    fn ranges_that_are_none_for_networks_are_refused() {
        for bad in [
            "192.0.2.1/24",
            "192.0.2.0/31",
            "0.0.0.0/0",
            "127.0.0.0/24",
            "224.0.0.0/24",
            "240.0.0.0/24",
            "64.0.0.0/6",
        ] {
            assert!(check(net(bad), &[], &[]).is_err(), "{bad}");
        }
        check(net("192.0.2.0/30"), &[], &[]).unwrap();
    }

    #[test]
    fn the_gateway_is_an_address_for_a_station() {
        let subnet = net("192.0.2.0/24");
        assert_eq!(gateway(subnet, None).unwrap().to_string(), "192.0.2.1");
        for bad in ["192.0.2.0", "192.0.2.255", "192.0.3.1"] {
            assert!(
                gateway(subnet, Some(bad.parse().unwrap())).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn ipv6_ranges_are_local_and_leave_room() {
        let made = ipv6(None, "0123456789abcdef").unwrap();
        assert_eq!(made.to_string(), "fd01:2345:6789::/64");
        for bad in ["fd00::1/64", "fd00::/97", "ff00::/64", "fe80::/64", "::/64"] {
            assert!(ipv6(Some(bad.parse().unwrap()), "0").is_err(), "{bad}");
        }
        ipv6(Some("2001:db8::/96".parse().unwrap()), "0").unwrap();
    }
}
