//! The container's `/etc/resolv.conf`, made from the host's (resolv.conf(5)).

use std::net::Ipv4Addr;

/// Used where the host names no server that a container could reach.
const PUBLIC: &str = "nameserver 1.1.1.1\nnameserver 8.8.8.8\n";

/// What containers on this host should resolve names with.
/// `resolver` is who resolves them as this host does, where containers
/// cannot ask the host's own servers.
pub fn for_containers(resolver: Option<Ipv4Addr>) -> String {
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    match resolver {
        Some(resolver) => through(&host, resolver),
        None => filter(&host),
    }
}

/// With this server alone.
fn through(host: &str, resolver: Ipv4Addr) -> String {
    let is_server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    let kept = host.lines().filter(|line| !is_server(line));
    let lines = kept.map(|line| format!("{line}\n"));
    format!("nameserver {resolver}\n{}", lines.collect::<String>())
}

/// Leaves out servers on the host's loopback, which a container with a network
/// of its own cannot reach.
fn filter(host: &str) -> String {
    let is_loopback = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .and_then(|address| address.parse::<std::net::IpAddr>().ok())
                .is_some_and(|address| address.is_loopback())
    };
    let kept: Vec<&str> = host.lines().filter(|line| !is_loopback(line)).collect();
    let mut text = kept.join("\n");
    text.push('\n');
    match kept
        .iter()
        .any(|line| line.trim_start().starts_with("nameserver"))
    {
        true => text,
        false => format!("{}{PUBLIC}", text.trim_start_matches('\n')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_stands_for_the_hosts_servers() {
        let host = "search example.org\nnameserver 127.0.0.53\noptions edns0\n";
        assert_eq!(
            through(host, Ipv4Addr::new(10, 0, 2, 3)),
            "nameserver 10.0.2.3\nsearch example.org\noptions edns0\n"
        );
    }

    #[test]
    fn loopback_servers_are_left_out() {
        let host =
            "search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n";
        assert_eq!(
            filter(host),
            "search example.org\nnameserver 192.0.2.1\noptions edns0\n"
        );
    }

    #[test]
    fn without_a_server_there_is_a_public_one() {
        assert_eq!(filter(""), PUBLIC);
        assert!(filter("nameserver ::1\n").ends_with(PUBLIC));
    }
}
