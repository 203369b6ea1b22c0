//! A container's `/etc/hosts` (hosts(5)).

use std::borrow::Cow;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use isolazi_protocol::NetworkState;
use isolazi_protocol::resolv_conf::{reachable, servers};

use super::files::Record;
use super::plan::hostname_of;
use crate::net::{HOST_NAMES, NAME_SERVER, host_of};

/// What every container knows itself and its neighbours by.
const ALWAYS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// An address that is nobody else's, for a name that has no other (Debian's choice).
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// The file of a container that is attached as `network` says, or not at all.
pub(crate) fn hosts(record: &Record, network: &NetworkState) -> String {
    let options = &record.spec.options;
    let hostname = hostname_of(record);
    let mut text = ALWAYS.to_owned();
    for endpoint in &network.endpoints {
        let _ = writeln!(text, "{}\t{hostname}", endpoint.address);
        if let Some(ipv6) = endpoint.ipv6 {
            let _ = writeln!(text, "{}\t{hostname}", ipv6.address);
        }
    }
    if network.endpoints.is_empty() {
        let _ = writeln!(text, "{OWN}\t{hostname}");
    }
    let outward = network.outward();
    let host = outward.map(|endpoint| host_of(options.network.host, endpoint));
    if let Some(host) = host {
        let _ = writeln!(text, "{host}\t{}", HOST_NAMES.join(" "));
    }
    for extra in &options.extra_hosts {
        // Without a way out the host is nowhere.
        if let Some(address) = extra.address.or(host.map(IpAddr::V4)) {
            let _ = writeln!(text, "{address}\t{}", extra.name);
        }
    }
    text
}

/// `/etc/resolv.conf` (resolv.conf(5)) of a container. Where nobody has said whom it is to
/// ask, those whom this system asks: a host that is no Unix does not know.
pub(crate) fn resolv_conf(record: &Record) -> Cow<'_, str> {
    let asked = &record.spec.resolv_conf;
    if !servers(asked).is_empty() {
        return Cow::Borrowed(asked);
    }
    let system = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    // Of two lines of a kind the last counts.
    Cow::Owned(reachable(&system) + asked)
}

/// `/etc/resolv.conf` (resolv.conf(5)) of a container that asks for names in its own
/// network namespace. Names without a dot are names, too: those of other containers.
pub(crate) fn resolv_conf_with_names(record: &Record) -> String {
    let asked = resolv_conf(record);
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let kept = asked
        .lines()
        .filter(|line| first(line).as_deref() != Some("nameserver"));
    let mut text = format!("nameserver {NAME_SERVER}\n");
    kept.for_each(|line| {
        let _ = writeln!(text, "{line}");
    });
    if !asked.contains("ndots:") {
        text.push_str("options ndots:0\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::plan::tests::spec;
    use isolazi_protocol::{
        ContainerId, Endpoint, ExtraHost, HostAddress, Ipv6Endpoint, MacAddress,
    };

    fn record() -> Record {
        let mut spec = spec();
        spec.hostname = Some("web".to_owned());
        let host = |name: &str, address: Option<&str>| ExtraHost {
            name: name.to_owned(),
            address: address.map(|it| it.parse().unwrap()),
        };
        spec.options.extra_hosts = vec![host("db", Some("2001:db8::1")), host("up", None)];
        Record {
            id: ContainerId::from_random(&[1; 32]),
            name: "web".to_owned(),
            created_at: 0,
            userns: None,
            spec,
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            network: "bridge".to_owned(),
            interface: "eth0".to_owned(),
            address: [192, 0, 2, 2].into(),
            prefix: 24,
            gateway: [192, 0, 2, 1].into(),
            internal: false,
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            aliases: Vec::new(),
            ipv6: None,
        }
    }

    fn own_lines(record: &Record, endpoints: &[Endpoint]) -> Vec<String> {
        let network = NetworkState {
            endpoints: endpoints.to_vec(),
            ports: Vec::new(),
        };
        let text = hosts(record, &network);
        let own = text.strip_prefix(ALWAYS).unwrap();
        own.lines().map(str::to_owned).collect()
    }

    #[test]
    fn without_a_network_it_knows_itself() {
        assert_eq!(
            own_lines(&record(), &[]),
            ["127.0.1.1\tweb", "2001:db8::1\tdb"]
        );
    }

    #[test]
    fn in_a_network_it_knows_the_host_by_the_gateway() {
        assert_eq!(
            own_lines(&record(), &[endpoint()]),
            [
                "192.0.2.2\tweb",
                "192.0.2.1\thost.isolazi.internal host.docker.internal",
                "2001:db8::1\tdb",
                "192.0.2.1\tup"
            ]
        );
    }

    #[test]
    fn the_host_may_be_elsewhere() {
        let mut record = record();
        record.spec.options.network.host = HostAddress::At([192, 0, 2, 99].into());
        let lines = own_lines(&record, &[endpoint()]);
        assert!(lines.contains(&"192.0.2.99\tup".to_owned()), "{lines:?}");
    }
    #[test]
    fn each_network_has_a_line_and_one_without_a_way_out_no_host() {
        let mut six = endpoint();
        six.internal = true;
        six.ipv6 = Some(Ipv6Endpoint {
            address: "fd00::2".parse().unwrap(),
            prefix: 64,
            gateway: "fd00::1".parse().unwrap(),
        });
        assert_eq!(
            own_lines(&record(), &[six]),
            ["192.0.2.2\tweb", "fd00::2\tweb", "2001:db8::1\tdb"]
        );
    }

    #[test]
    fn names_are_asked_for_in_the_container_itself() {
        let mut record = record();
        record.spec.resolv_conf = "search a.b\nnameserver 192.0.2.53\n".to_owned();
        assert_eq!(
            resolv_conf_with_names(&record),
            "nameserver 127.0.0.11\nsearch a.b\noptions ndots:0\n"
        );
        record.spec.resolv_conf = "options ndots:2\nnameserver 192.0.2.53\n".to_owned();
        assert_eq!(
            resolv_conf_with_names(&record),
            "nameserver 127.0.0.11\noptions ndots:2\n"
        );
    }

    #[test]
    fn where_nobody_says_whom_to_ask_the_system_does() {
        let mut record = record();
        record.spec.resolv_conf = "search a.b\n".to_owned();
        let text = resolv_conf(&record);
        assert!(!servers(&text).is_empty(), "{text}");
        assert!(text.ends_with("search a.b\n"), "{text}");
    }
}
