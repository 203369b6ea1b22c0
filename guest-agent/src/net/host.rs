//! Where containers find the host.

use std::net::Ipv4Addr;
use std::path::Path;

use isolazi_protocol::{Endpoint, HostAddress};

use super::routes::{self, Route};

/// Windows' own loopback, which a distribution of WSL has where it has Windows' addresses
/// as well (`networkingMode=mirrored`). Its gateway is then the gateway of Windows.
const MIRRORED: &str = "/sys/class/net/loopback0";

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
    match Path::new(MIRRORED).exists() {
        true => None,
        false => default_gateway(&routes::of_machine()),
    }
}

fn default_gateway(routes: &[Route]) -> Option<Ipv4Addr> {
    let leading = routes.iter().filter(|it| it.is_default());
    let leading = leading.filter_map(|it| Some((it.metric, it.gateway?)));
    leading.min_by_key(|(metric, _)| *metric).map(|it| it.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(range: &str, gateway: Option<[u8; 4]>, metric: u32) -> Route {
        Route {
            link: "eth0".to_owned(),
            range: range.parse().unwrap(),
            gateway: gateway.map(Ipv4Addr::from),
            metric,
        }
    }

    #[test]
    fn the_gateway_of_the_least_metric_counts() {
        let routes = [
            route("10.0.0.7/32", Some([10, 0, 0, 7]), 0),
            route("0.0.0.0/0", None, 0),
            route("0.0.0.0/0", Some([10, 0, 0, 1]), 20),
            route("0.0.0.0/0", Some([10, 0, 0, 2]), 10),
        ];
        assert_eq!(default_gateway(&routes), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(default_gateway(&routes[..2]), None);
    }
}
