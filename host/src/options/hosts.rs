//! Names and addresses: `/etc/hosts` and `/etc/resolv.conf`.

use isolazi_protocol::{Dns, ExtraHost};

use super::OptionError;
use crate::cli::SettingsArgs;

/// What stands for the host's own address.
const HOST_GATEWAY: &str = "host-gateway";
/// A search domain that is none.
const NO_SEARCH: &str = ".";

/// `NAME:IP` or `NAME=IP`; an IPv6 address may stand in brackets, and `host-gateway`
/// for the host's own.
pub(super) fn extra_host(text: &str) -> Result<ExtraHost, OptionError> {
    let form = || OptionError::form(text, "a host to add", "NAME:IP");
    let (name, address) = text.split_once(['=', ':']).ok_or_else(form)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        HOST_GATEWAY => None,
        address => Some(address.parse().map_err(|_| form())?),
    };
    match name.is_empty() {
        false => Ok(ExtraHost {
            name: name.to_owned(),
            address,
        }),
        true => Err(form()),
    }
}

pub(super) fn dns(args: &SettingsArgs) -> Result<Dns, OptionError> {
    let server = |text: &String| {
        let form = || OptionError::form(text, "a name server", "an IP address");
        text.parse().map_err(|_| form())
    };
    let words = |texts: &[String], what, form| {
        let is_word = |text: &&String| !text.is_empty() && !text.contains(char::is_whitespace);
        match texts.iter().find(|text| !is_word(text)) {
            None => Ok(texts.to_vec()),
            Some(bad) => Err(OptionError::form(bad, what, form)),
        }
    };
    Ok(Dns {
        servers: args.dns.iter().map(server).collect::<Result<_, _>>()?,
        search: words(
            &args.dns_search,
            "a search domain",
            "a domain, or . for none",
        )?,
        options: words(
            &args.dns_option,
            "a resolver option",
            "one of resolv.conf(5)",
        )?,
    })
}

/// `/etc/resolv.conf` with what was asked for in place of what `base` has of
/// the same kind.
pub fn resolv_conf(base: &str, dns: &Dns) -> String {
    let replaced = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => !dns.servers.is_empty(),
        Some("search" | "domain") => !dns.search.is_empty(),
        Some("options") => !dns.options.is_empty(),
        _ => false,
    };
    let kept = base.lines().filter(|line| !replaced(line));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    let servers = dns.servers.iter();
    lines.extend(servers.map(|server| format!("nameserver {server}")));
    if !dns.search.is_empty() && dns.search != [NO_SEARCH] {
        lines.push(format!("search {}", dns.search.join(" ")));
    }
    if !dns.options.is_empty() {
        lines.push(format!("options {}", dns.options.join(" ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_added_by_colon_or_equals_sign() {
        for (text, name, address) in [
            ("db:192.0.2.7", "db", "192.0.2.7"),
            ("db=192.0.2.7", "db", "192.0.2.7"),
            ("six:2001:db8::1", "six", "2001:db8::1"),
            ("six=[2001:db8::1]", "six", "2001:db8::1"),
        ] {
            let host = extra_host(text).unwrap();
            assert_eq!(
                (host.name.as_str(), host.address),
                (name, Some(address.parse().unwrap()))
            );
        }
        for bad in ["", "db", "db:", ":192.0.2.7", "db:x", "db:192.0.2.7:80"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
        assert_eq!(extra_host("up:host-gateway").unwrap().address, None);
    }

    const BASE: &str = "nameserver 192.0.2.1\nsearch example.org\noptions edns0\n";

    #[test]
    fn what_is_not_asked_for_stays_the_hosts() {
        assert_eq!(resolv_conf(BASE, &Dns::default()), BASE);
        let dns = Dns {
            servers: vec![[192, 0, 2, 53].into(), [192, 0, 2, 54].into()],
            ..Dns::default()
        };
        assert_eq!(
            resolv_conf(BASE, &dns),
            "search example.org\noptions edns0\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"
        );
    }

    #[test]
    fn a_dot_searches_nowhere() {
        let dns = |search: &str| Dns {
            search: vec![search.to_owned()],
            options: vec!["ndots:2".to_owned()],
            ..Dns::default()
        };
        assert_eq!(
            resolv_conf(BASE, &dns(".")),
            "nameserver 192.0.2.1\noptions ndots:2\n"
        );
        assert!(resolv_conf(BASE, &dns("a.b")).contains("search a.b\n"));
    }

    #[test]
    fn wrong_servers_and_words_are_refused() {
        for args in [
            SettingsArgs {
                dns: vec!["example.org".to_owned()],
                ..SettingsArgs::default()
            },
            SettingsArgs {
                dns_search: vec!["a\nnameserver x".to_owned()],
                ..SettingsArgs::default()
            },
            SettingsArgs {
                dns_option: vec![String::new()],
                ..SettingsArgs::default()
            },
        ] {
            assert!(dns(&args).is_err());
        }
    }
}
