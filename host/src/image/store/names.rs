//! Where an image's entry lies below `manifests/`.
//!
//! ```text
//!  localhost:5000/x:latest     localhost+5000/x/latest.json
//!  docker.io/library/a:Beta    docker.io/library/a/beta!1.json
//!  ghcr.io/o/r@sha256:0a…      ghcr.io/o/r/@0a….json
//! ```
//!
//! Two references never share a file, on file systems that ignore case
//! (macOS, Windows) neither, and no name is one that Windows reserves. The
//! characters that mark an escape (`+ ! @ =`) are in no part of a reference.

use std::path::PathBuf;

use super::super::reference::Reference;

/// Ending of every entry.
pub(super) const ENTRY: &str = "json";

/// The path of a reference's entry, relative to `manifests/`.
pub(super) fn entry_path(reference: &Reference) -> PathBuf {
    let mut path = PathBuf::from(directory_name(&reference.registry().replace(':', "+")));
    path.extend(reference.repository().split('/').map(directory_name));
    path.push(match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{}.{ENTRY}", digest.hex()),
        (None, tag) => format!("{}.{ENTRY}", tag_name(tag.unwrap_or_default())),
    });
    path
}

/// A folder must not be taken for an entry (`a:b` and `a/b.json` are both
/// legal), nor for a device.
fn directory_name(part: &str) -> String {
    let marker = if is_reserved(part) { "=" } else { "" };
    let ending = if part.ends_with(".json") { "=" } else { "" };
    format!("{marker}{part}{ending}")
}

/// In lower case, followed by which letters were capitals: bit i of the
/// number is letter i.
fn tag_name(tag: &str) -> String {
    let marker = if is_reserved(tag) { "=" } else { "" };
    let capitals = tag
        .bytes()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_uppercase())
        .fold(0u128, |bits, (index, _)| bits | 1 << (index % 128));
    let lower = tag.to_ascii_lowercase();
    match capitals {
        0 => format!("{marker}{lower}"),
        bits => format!("{marker}{lower}!{bits:x}"),
    }
}

/// Names of devices on Windows, with any ending.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.to_ascii_lowercase();
    match stem.as_bytes() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [b'c', b'o', b'm', digit] | [b'l', b'p', b't', digit] => digit.is_ascii_digit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        let reference = Reference::parse(text).unwrap();
        entry_path(&reference).to_str().unwrap().replace('\\', "/")
    }

    #[test]
    fn names_are_readable_and_portable() {
        assert_eq!(path("alpine"), "docker.io/library/alpine/latest.json");
        assert_eq!(path("localhost:5000/x:1"), "localhost+5000/x/1.json");
        assert_eq!(path("[::1]:5000/x:1"), "[++1]+5000/x/1.json");
        assert_eq!(path("x.io/aux/con.d:NUL"), "x.io/=aux/=con.d/=nul!7.json");
        let pinned = format!("x:1@sha256:{}", "0a".repeat(32));
        assert_eq!(
            path(&pinned),
            format!("docker.io/library/x/@{}.json", "0a".repeat(32))
        );
    }

    #[test]
    fn what_differs_in_case_or_ending_does_not_collide() {
        assert_ne!(path("a:Beta").to_lowercase(), path("a:beta").to_lowercase());
        assert_ne!(path("a:bEta").to_lowercase(), path("a:Beta").to_lowercase());
        assert_eq!(path("x.io/a:b"), "x.io/a/b.json");
        assert!(path("x.io/a/b.json:c").starts_with("x.io/a/b.json=/"));
    }

    #[test]
    fn the_longest_tag_fits_a_file_name() {
        let longest = path(&format!("a:{}", "T".repeat(128)));
        assert!(longest.rsplit('/').next().unwrap().len() <= 255);
    }
}
