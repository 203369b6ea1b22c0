//! Where containers find the host.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use isolazi_protocol::{Endpoint, HostAddress};

/// Windows' own loopback, which a distribution of WSL has where it has Windows' addresses
/// as well (`networkingMode=mirrored`). Its gateway is then the gateway of Windows.
const MIRRORED: &str = "/sys/class/net/loopback0";
/// `RTF_UP` and `RTF_GATEWAY` (route(4) of BSD, whose numbers `/proc/net/route` has).
const UP_BY_GATEWAY: u32 = 0x3;

/// The host's address for a container whose way out is `outward`. What cannot be found
/// out is as if the host were the network's gateway.
pub(crate) fn host_of(host: HostAddress, outward: &Endpoint) -> Ipv4Addr {
    match host {
        HostAddress::Gateway => outward.gateway,
        HostAddress::At(address) => address,
        HostAddress::EnginesGateway => gateway().unwrap_or(outward.gateway),
    }
}

/// Who takes what this system sends to everywhere else.
fn gateway() -> Option<Ipv4Addr> {
    if Path::new(MIRRORED).exists() {
        return None;
    }
    default_gateway(&fs::read_to_string("/proc/thread-self/net/route").ok()?)
}

/// That of `/proc/net/route`: name, destination, gateway, flags, three numbers of which
/// the last is the metric, and mask; addresses are in hexadecimal, as this machine's numbers.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    let hexadecimal = |word: &str| u32::from_str_radix(word, 16).ok();
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, flags, _, _, metric, "00000000", ..] = words[..] else {
            return None;
        };
        let leads = hexadecimal(flags)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
        let gateway = Ipv4Addr::from(hexadecimal(gateway)?.to_ne_bytes());
        leads.then_some((metric.parse::<u32>().ok()?, gateway))
    };
    let routes = table.lines().filter_map(route);
    let best = routes.min_by_key(|(metric, _)| *metric);
    best.map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the kernel writes it.
    fn line(destination: u32, gateway: [u8; 4], flags: u32, metric: u32) -> String {
        let gateway = u32::from_ne_bytes(gateway);
        let mask = if destination == 0 { 0 } else { u32::MAX };
        format!(
            "eth0\t{destination:08X}\t{gateway:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0\n"
        )
    }

    #[test]
    fn the_gateway_of_the_least_metric_counts() {
        let heading = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let table = [
            heading.to_owned(),
            line(7, [10, 0, 0, 7], 3, 0),
            line(0, [0, 0, 0, 0], 1, 0),
            line(0, [10, 0, 0, 1], 3, 20),
            line(0, [10, 0, 0, 2], 3, 10),
        ];
        assert_eq!(
            default_gateway(&table.concat()),
            Some(Ipv4Addr::new(10, 0, 0, 2))
        );
        assert_eq!(default_gateway(heading), None);
        assert_eq!(default_gateway("no table"), None);
    }
}
