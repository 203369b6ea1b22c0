//! The container's `/etc/resolv.conf`, made from the host's (resolv.conf(5)).

use std::net::Ipv4Addr;

use isolazi_protocol::resolv_conf::reachable;

use crate::machine::Resolver;

/// What containers on this host should resolve names with. Without a server in it, the
/// engine adds those that it knows.
pub fn for_containers(resolver: Resolver) -> String {
    let host = || std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    match resolver {
        Resolver::At(resolver) => through(&host(), resolver),
        Resolver::Hosts => reachable(&host()),
        Resolver::Engines => String::new(),
    }
}

/// With this server alone.
fn through(host: &str, resolver: Ipv4Addr) -> String {
    let is_server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    let kept = host.lines().filter(|line| !is_server(line));
    let lines = kept.map(|line| format!("{line}\n"));
    format!("nameserver {resolver}\n{}", lines.collect::<String>())
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
}
