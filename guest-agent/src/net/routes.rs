//! Where this machine has ways to.

use std::fs;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// `RTF_UP` and `RTF_GATEWAY` of a route's flags (`linux/route.h`).
const UP_BY_GATEWAY: u32 = 0x3;

/// A way of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) link: String,
    /// Where it leads.
    pub(super) range: Ipv4Net,
    /// Who passes on what goes that way, where that is not delivered directly.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Of two ways the one with the smaller number is taken.
    pub(super) metric: u32,
}

impl Route {
    /// Whether it leads to everywhere.
    pub(super) fn is_default(&self) -> bool {
        self.range.prefix_len() == 0
    }
}

/// Those of the calling thread's network namespace; none where there is no telling.
pub(super) fn of_machine() -> Vec<Route> {
    let table = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    parse(&table)
}

/// Those of `/proc/net/route`: link, destination, gateway, flags, two counts, metric and
/// mask; addresses are in hexadecimal, as this machine's numbers.
fn parse(table: &str) -> Vec<Route> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let address = |word: &str| number(word).map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [link, destination, gateway, flags, _, _, metric, mask, ..] = words[..] else {
            return None;
        };
        let is_by_gateway = number(flags)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
        Some(Route {
            link: link.to_owned(),
            range: Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?,
            gateway: address(gateway).filter(|_| is_by_gateway),
            metric: metric.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_from_the_kernels_table() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t00000000\t0102000A\t0003\t0\t0\t7\t00000000\n\
            nonsense\n\
            eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let route = |range: &str, gateway, metric| Route {
            link: "eth0".to_owned(),
            range: range.parse().unwrap(),
            gateway,
            metric,
        };
        if cfg!(target_endian = "little") {
            let gateway = Ipv4Addr::new(10, 0, 2, 1);
            let expected = [
                route("0.0.0.0/0", Some(gateway), 7),
                route("10.0.2.0/24", None, 0),
            ];
            assert_eq!(parse(table), expected);
        }
        assert_eq!(parse(table.lines().next().unwrap_or_default()), []);
        assert_eq!(parse("no table"), []);
    }
}
