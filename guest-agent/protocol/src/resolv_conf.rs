//! Whom containers ask for names, as resolv.conf(5) has it: the host says it for those on
//! its own kernel, and an engine where only that knows.

use std::net::IpAddr;

/// Asked where nobody else is named whom a container could reach.
const PUBLIC: &str = "nameserver 1.1.1.1\nnameserver 8.8.8.8\n";

/// The servers that a file names, in order.
pub fn servers(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(server).collect()
}

fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
}

/// A system's file, without servers on its loopback, which a container with a network of
/// its own cannot reach; with public ones where there is no other.
pub fn reachable(system: &str) -> String {
    let is_loopback = |line: &str| server(line).is_some_and(|address| address.is_loopback());
    let kept: Vec<&str> = system.lines().filter(|line| !is_loopback(line)).collect();
    let mut text = kept.join("\n");
    text.push('\n');
    match servers(&text).is_empty() {
        true => format!("{}{PUBLIC}", text.trim_start_matches('\n')),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_are_left_out() {
        let host =
            "search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n";
        assert_eq!(
            reachable(host),
            "search example.org\nnameserver 192.0.2.1\noptions edns0\n"
        );
    }

    #[test]
    fn without_a_server_there_is_a_public_one() {
        assert_eq!(reachable(""), PUBLIC);
        assert!(reachable("nameserver ::1\n").ends_with(PUBLIC));
    }

    #[test]
    fn servers_stand_in_resolv_conf() {
        let text = "# nameserver 192.0.2.9\nsearch a\nnameserver 192.0.2.1\nnameserver\n\
            nameserver x\n  nameserver 2001:db8::1 \n";
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(servers(text), expected);
    }
}
