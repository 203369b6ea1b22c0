//! A container's `/etc/hosts` (hosts(5)).

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use isolazi_protocol::Endpoint;

use super::files::Record;
use super::plan::hostname_of;

/// What every container knows itself and its neighbours by.
const ALWAYS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The names of the host, the second for those who are used to it.
const HOST_NAMES: &str = "host.isolazi.internal host.docker.internal";

/// An address that is nobody else's, for a name that has no other (Debian's choice).
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// The file of a container that is attached by `endpoint`, or not at all.
pub(crate) fn hosts(record: &Record, endpoint: Option<&Endpoint>) -> String {
    let options = &record.spec.options;
    let own = endpoint.map_or(OWN, |endpoint| endpoint.address);
    let host = endpoint.map(|endpoint| options.network.host.unwrap_or(endpoint.gateway));
    let mut text = format!("{ALWAYS}{own}\t{}\n", hostname_of(record));
    if let Some(host) = host {
        let _ = writeln!(text, "{host}\t{HOST_NAMES}");
    }
    for extra in &options.extra_hosts {
        // Without a network the host is nowhere.
        if let Some(address) = extra.address.or(host.map(IpAddr::V4)) {
            let _ = writeln!(text, "{address}\t{}", extra.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::plan::tests::spec;
    use isolazi_protocol::{ContainerId, ExtraHost, MacAddress};

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
            address: [192, 0, 2, 2].into(),
            prefix: 24,
            gateway: [192, 0, 2, 1].into(),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
        }
    }

    fn own_lines(record: &Record, endpoint: Option<&Endpoint>) -> Vec<String> {
        let text = hosts(record, endpoint);
        let own = text.strip_prefix(ALWAYS).unwrap();
        own.lines().map(str::to_owned).collect()
    }

    #[test]
    fn without_a_network_it_knows_itself() {
        assert_eq!(
            own_lines(&record(), None),
            ["127.0.1.1\tweb", "2001:db8::1\tdb"]
        );
    }

    #[test]
    fn in_a_network_it_knows_the_host_by_the_gateway() {
        assert_eq!(
            own_lines(&record(), Some(&endpoint())),
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
        record.spec.options.network.host = Some([192, 0, 2, 99].into());
        let lines = own_lines(&record, Some(&endpoint()));
        assert!(lines.contains(&"192.0.2.99\tup".to_owned()), "{lines:?}");
    }
}
