//! A container's networks: which ones, and which of its ports are reached how.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use isolazi_protocol::{
    EndpointRequest, ExposedPort, MacAddress, NetworkMode, NetworkOptions, PortProtocol,
    PortRequest,
};

use super::OptionError;
use crate::cli::NetworkArgs;

/// So many ports may stand in one range; more is a slip of the finger.
const LONGEST_RANGE: usize = 4096;
const NETWORKS: &str =
    "NAME of one, name=NAME,alias=…,ip=…,mac-address=…, or alone: none, host, container:NAME";
const PUBLISHED: &str = "[IP:][HOST:]CONTAINER[/tcp|udp], ports or ranges of the same length";
const EXPOSED: &str = "PORT[/tcp|udp], a port or a range";

/// Which networks the container joins. What is asked for beside them is the first one's.
pub fn network(args: &NetworkArgs) -> Result<NetworkMode, OptionError> {
    let mode = match &args.network[..] {
        [] => NetworkMode::default(),
        [one] => single(one)?,
        several => NetworkMode::Networks(
            several
                .iter()
                .map(|it| joined(it))
                .collect::<Result<_, _>>()?,
        ),
    };
    let wishes = wishes(args)?;
    match (mode, wishes) {
        (NetworkMode::Networks(mut endpoints), Some(wishes)) => {
            if let Some(first) = endpoints.first_mut() {
                first.address = wishes.address.or(first.address);
                first.mac = wishes.mac.or(first.mac);
                first.aliases.extend(wishes.aliases);
            }
            Ok(NetworkMode::Networks(endpoints))
        }
        (mode, None) => Ok(mode),
        (mode, Some(_)) => Err(OptionError::Unfitting {
            what: "--ip, --mac-address and --network-alias",
            beside: format!("--network {mode}"),
        }),
    }
}

/// What is said of the first network by options of their own.
fn wishes(args: &NetworkArgs) -> Result<Option<EndpointRequest>, OptionError> {
    let wishes = EndpointRequest {
        network: String::new(),
        address: args.ip.as_deref().map(address).transpose()?,
        mac: args.mac_address.as_deref().map(mac).transpose()?,
        aliases: args.network_alias.clone(),
    };
    Ok((wishes != EndpointRequest::default()).then_some(wishes))
}

/// Without networks, with the host's or another container's, or in one network.
fn single(text: &str) -> Result<NetworkMode, OptionError> {
    match text {
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => match other.strip_prefix("container:") {
            Some("") => Err(OptionError::form(text, "a network", NETWORKS)),
            Some(peer) => Ok(NetworkMode::Container(peer.to_owned())),
            None => Ok(NetworkMode::Networks(vec![joined(text)?])),
        },
    }
}

/// `NAME`, or `name=NAME,ip=…,mac-address=…,alias=…`.
fn joined(text: &str) -> Result<EndpointRequest, OptionError> {
    let bad = || OptionError::form(text, "a network to join", NETWORKS);
    if matches!(text, "none" | "host") || text.starts_with("container:") || text.is_empty() {
        return Err(bad());
    }
    if !text.contains('=') {
        return Ok(EndpointRequest::new(text));
    }
    let mut endpoint = EndpointRequest::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(bad)?;
        match key {
            "name" => endpoint.network = value.to_owned(),
            "ip" => endpoint.address = Some(address(value)?),
            "mac-address" => endpoint.mac = Some(mac(value)?),
            "alias" => endpoint.aliases.push(value.to_owned()),
            _ => return Err(bad()),
        }
    }
    match endpoint.network.is_empty() {
        true => Err(bad()),
        false => Ok(endpoint),
    }
}

fn address(text: &str) -> Result<Ipv4Addr, OptionError> {
    parse(text, "an IPv4 address", "four numbers, such as 172.20.0.9")
}

fn mac(text: &str) -> Result<MacAddress, OptionError> {
    parse(
        text,
        "an Ethernet address of one station",
        "six pairs of hexadecimal digits, such as 02:42:ac:14:00:02",
    )
}

/// How it is in there. `exposed` are the ports that the image names.
pub fn network_options(
    args: &NetworkArgs,
    exposed: &[String],
) -> Result<NetworkOptions, OptionError> {
    let mut all = Vec::new();
    for text in exposed.iter().chain(&args.expose) {
        all.extend(exposed_ports(text)?);
    }
    all.sort_unstable();
    all.dedup();
    let mut ports = Vec::new();
    for text in &args.publish {
        ports.extend(published_ports(text)?);
    }
    if args.publish_all {
        let is_published =
            |port: &ExposedPort| ports.iter().any(|it: &PortRequest| it.target == *port);
        let rest: Vec<_> = all.iter().filter(|port| !is_published(port)).collect();
        ports.extend(rest.into_iter().map(|&target| PortRequest {
            address: None,
            host_port: None,
            target,
        }));
    }
    Ok(NetworkOptions {
        ports,
        exposed: all,
        ..NetworkOptions::default()
    })
}

fn parse<T: FromStr>(text: &str, what: &'static str, form: &'static str) -> Result<T, OptionError> {
    text.parse()
        .map_err(|_| OptionError::form(text, what, form))
}

/// `PORT[-PORT][/PROTOCOL]`.
pub(crate) fn exposed_ports(text: &str) -> Result<Vec<ExposedPort>, OptionError> {
    let bad = || OptionError::form(text, "a port of a container", EXPOSED);
    let (ports, protocol) = with_protocol(text).ok_or_else(bad)?;
    let ports = range(ports).ok_or_else(bad)?;
    Ok(ports.map(|port| ExposedPort { port, protocol }).collect())
}

/// `[IP:][HOST:]CONTAINER[/PROTOCOL]`.
fn published_ports(text: &str) -> Result<Vec<PortRequest>, OptionError> {
    let bad = || OptionError::form(text, "a port to publish", PUBLISHED);
    let (rest, protocol) = with_protocol(text).ok_or_else(bad)?;
    // From the right, as an IPv6 address has colons, too.
    let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address = address_of(address).ok_or_else(bad)?;
    let container: Vec<u16> = range(container).ok_or_else(bad)?.collect();
    let host: Vec<Option<u16>> = match host {
        "" => vec![None; container.len()],
        host => range(host).ok_or_else(bad)?.map(Some).collect(),
    };
    if host.len() != container.len() {
        return Err(bad());
    }
    let pairs = host.into_iter().zip(container);
    Ok(pairs
        .map(|(host_port, port)| PortRequest {
            address,
            host_port,
            target: ExposedPort { port, protocol },
        })
        .collect())
}

/// `None` within where there is none: on all addresses.
fn address_of(text: &str) -> Option<Option<IpAddr>> {
    if text.is_empty() {
        return Some(None);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok().map(Some)
}

fn with_protocol(text: &str) -> Option<(&str, PortProtocol)> {
    match text.split_once('/') {
        None => Some((text, PortProtocol::default())),
        Some((rest, name)) => Some((rest, PortProtocol::named(name)?)),
    }
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&port| is_plain && port != 0)
    };
    let (first, last): (u16, u16) = (number(first)?, number(last)?);
    let length = usize::from(last.checked_sub(first)?) + 1;
    (length <= LONGEST_RANGE).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> Vec<String> {
        let ports = published_ports(text).unwrap();
        let shown = |port: PortRequest| {
            let address = port.address.map_or("*".to_owned(), |it| it.to_string());
            let host = port.host_port.map_or("?".to_owned(), |it| it.to_string());
            format!("{address} {host} {}", port.target)
        };
        ports.into_iter().map(shown).collect()
    }

    #[test]
    fn ports_are_published_as_docker_writes_them() {
        for (text, expected) in [
            ("80", &["* ? 80/tcp"][..]),
            ("8080:80", &["* 8080 80/tcp"]),
            ("8080:80/UDP", &["* 8080 80/udp"]),
            (":80", &["* ? 80/tcp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1 8080 80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1 ? 80/tcp"]),
            ("[::1]:8080:80", &["::1 8080 80/tcp"]),
            ("::1:8080:80", &["::1 8080 80/tcp"]),
            ("8000-8001:80-81", &["* 8000 80/tcp", "* 8001 81/tcp"]),
            ("7000-7001/udp", &["* ? 7000/udp", "* ? 7001/udp"]),
        ] {
            assert_eq!(published(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in [
            "",
            "0",
            "65536",
            "x",
            "+80",
            "80/",
            "80/sctp",
            "8080:",
            "8080:0",
            "0:80",
            "x:80",
            "localhost:8080:80",
            "256.0.0.1:8080:80",
            "1:2:3:4",
            "80-79",
            "8000-8001:80",
            "8000:80-81",
            "1-65535",
        ] {
            assert!(published_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_that_is_exposed_can_be_published() {
        let args = NetworkArgs {
            publish: vec!["8080:80".to_owned()],
            publish_all: true,
            expose: vec!["90-91/udp".to_owned(), "80".to_owned()],
            ..NetworkArgs::default()
        };
        let options = network_options(&args, &["80/tcp".to_owned(), "443".to_owned()]).unwrap();
        let exposed: Vec<String> = options.exposed.iter().map(ToString::to_string).collect();
        assert_eq!(exposed, ["80/tcp", "90/udp", "91/udp", "443/tcp"]);
        let targets: Vec<String> = options
            .ports
            .iter()
            .map(|it| it.target.to_string())
            .collect();
        assert_eq!(targets, ["80/tcp", "90/udp", "91/udp", "443/tcp"]);
    }

    fn modes(networks: &[&str]) -> Result<NetworkMode, OptionError> {
        network(&NetworkArgs {
            network: networks.iter().map(ToString::to_string).collect(),
            ..NetworkArgs::default()
        })
    }

    #[test]
    fn networks_have_names() {
        assert_eq!(modes(&[]).unwrap(), NetworkMode::default());
        assert_eq!(modes(&["none"]).unwrap(), NetworkMode::None);
        assert_eq!(modes(&["host"]).unwrap(), NetworkMode::Host);
        assert_eq!(
            modes(&["container:web"]).unwrap(),
            NetworkMode::Container("web".to_owned())
        );
        let joined = modes(&["front", "name=back,ip=192.0.2.9,alias=db,alias=sql"]).unwrap();
        let [front, back] = joined.endpoints() else {
            panic!("{joined:?}");
        };
        assert_eq!(*front, EndpointRequest::new("front"));
        assert_eq!(back.network, "back");
        assert_eq!(back.address, Some(Ipv4Addr::new(192, 0, 2, 9)));
        assert_eq!(back.aliases, ["db", "sql"]);
        for bad in [
            &[""][..],
            &["container:"],
            &["front", "none"],
            &["host", "front"],
            &["front", "container:web"],
            &["alias=x"],
            &["name=front,colour=red"],
            &["name=front,ip=x"],
            &["name=front,x"],
        ] {
            assert!(modes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn wishes_are_about_the_first_network() {
        let args = |network: &[&str]| NetworkArgs {
            network: network.iter().map(ToString::to_string).collect(),
            network_alias: vec!["www".to_owned()],
            ip: Some("192.0.2.7".to_owned()),
            mac_address: Some("02:42:ac:14:00:02".to_owned()),
            ..NetworkArgs::default()
        };
        let joined = network(&args(&["front", "back"])).unwrap();
        let [front, back] = joined.endpoints() else {
            panic!("{joined:?}");
        };
        assert_eq!(front.aliases, ["www"]);
        assert_eq!(front.address, Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert!(front.mac.is_some());
        assert_eq!(*back, EndpointRequest::new("back"));
        for alone in ["none", "host", "container:web"] {
            let error = network(&args(&[alone])).unwrap_err().to_string();
            assert!(error.contains(alone), "{error}");
        }
    }

    #[test]
    fn addresses_are_checked() {
        for (ip, mac) in [(Some("172.20.0"), None), (None, Some("02:42"))] {
            let args = NetworkArgs {
                ip: ip.map(str::to_owned),
                mac_address: mac.map(str::to_owned),
                ..NetworkArgs::default()
            };
            assert!(network(&args).is_err());
        }
    }
}
