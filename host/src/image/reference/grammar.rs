//! The parts of an image's name, each checked by itself.

use std::net::Ipv6Addr;

use isolazi_protocol::Digest;

use super::{DEFAULT_REGISTRY, MAX_NAME, MAX_TAG, ReferenceError};

/// Where the hub keeps images whose name is one word.
const OFFICIAL: &str = "library";
/// Beyond this nothing can be a reference; keeps errors short.
const MAX_REFERENCE: usize = 512;

/// Whether `registry` (`HOST[:PORT]`) is this computer by its very name, so
/// that nobody in between can listen.
pub fn is_loopback(registry: &str) -> bool {
    let host = host_of(registry);
    if host == "localhost" {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

/// The host of `HOST[:PORT]`, IPv6 still in its brackets.
pub(crate) fn host_of(registry: &str) -> &str {
    match registry.rfind(']') {
        Some(end) => &registry[..=end],
        None => registry.split(':').next().unwrap_or(registry),
    }
}

/// Text of strangers for an error: control characters escaped.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// What can be said before anything is taken apart.
pub(super) fn check_whole(text: &str) -> Result<(), ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if text.len() > MAX_REFERENCE {
        return Err(ReferenceError::TooLong(text.len()));
    }
    if text.contains("://") {
        return Err(ReferenceError::Scheme(shown(text)));
    }
    Ok(())
}

pub(super) fn parse_digest(whole: &str, digest: &str) -> Result<Digest, ReferenceError> {
    digest.parse().map_err(|_| ReferenceError::Digest {
        name: shown(whole),
        digest: shown(digest),
    })
}

/// A colon after the last slash starts a tag; before it, a port.
pub(super) fn split_tag(text: &str) -> (&str, Option<&str>) {
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[last..].find(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    }
}

pub(super) fn parse_tag(whole: &str, tag: &str) -> Result<String, ReferenceError> {
    let first = tag.bytes().next();
    let good = first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.len() <= MAX_TAG
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match good {
        true => Ok(tag.to_owned()),
        false => Err(ReferenceError::Tag {
            name: shown(whole),
            tag: shown(tag),
        }),
    }
}

/// Registry and repository, spelled out.
pub(super) fn parse_name(whole: &str, name: &str) -> Result<(String, String), ReferenceError> {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host_like(first) => (parse_registry(whole, first)?, rest),
        _ => (DEFAULT_REGISTRY.to_owned(), name),
    };
    check_repository(whole, repository)?;
    let repository = match registry == DEFAULT_REGISTRY && !repository.contains('/') {
        true if is_id(repository) => return Err(ReferenceError::Id(repository.to_owned())),
        true => format!("{OFFICIAL}/{repository}"),
        false => repository.to_owned(),
    };
    match registry.len() + 1 + repository.len() {
        length if length > MAX_NAME => Err(ReferenceError::TooLong(length)),
        _ => Ok((registry, repository)),
    }
}

/// Whether it looks like an image's id.
pub(super) fn is_id(repository: &str) -> bool {
    repository.len() == 64 && repository.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What stands before the first slash is a registry only if it could not be
/// part of a repository on the hub.
pub(super) fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn parse_registry(whole: &str, registry: &str) -> Result<String, ReferenceError> {
    let malformed = || ReferenceError::Registry {
        name: shown(whole),
        registry: shown(registry),
    };
    let host = host_of(registry);
    let port = &registry[host.len()..];
    let host = canonical_host(host).ok_or_else(malformed)?;
    let port = canonical_port(port).ok_or_else(malformed)?;
    Ok(match format!("{host}{port}") {
        hub if hub == "index.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other,
    })
}

fn canonical_host(host: &str) -> Option<String> {
    if let Some(bracketed) = host.strip_prefix('[') {
        let address: Ipv6Addr = bracketed.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.')
        .all(label)
        .then(|| host.to_ascii_lowercase())
}

/// Empty, or a colon and a port from 1 to 65535.
fn canonical_port(port: &str) -> Option<String> {
    if port.is_empty() {
        return Some(String::new());
    }
    let digits = port.strip_prefix(':')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match digits.parse::<u16>() {
        Ok(0) | Err(_) => None,
        Ok(number) => Some(format!(":{number}")),
    }
}

fn check_repository(whole: &str, repository: &str) -> Result<(), ReferenceError> {
    let Some(part) = repository.split('/').find(|part| !is_component(part)) else {
        return Ok(());
    };
    let name = shown(whole);
    let part = shown(part);
    Err(match part.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => ReferenceError::Uppercase { name, part },
        false => ReferenceError::Repository { name, part },
    })
}

/// distribution-spec: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let edges_are_words = bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes.last().is_some_and(|byte| is_word(*byte));
    edges_are_words
        && bytes
            .split(|byte| is_word(*byte))
            .all(|separator| match separator {
                [] | b"." | b"_" | b"__" => true,
                other => other.iter().all(|byte| *byte == b'-'),
            })
}
