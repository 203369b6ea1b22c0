//! The ids that a user has been given besides the own one: subuid(5), subgid(5).

use std::fs;
use std::path::Path;

use nix::unistd::User;

use crate::sys::idmap::{IdMap, IdRange};

/// So much of such a file is read.
const MOST_BYTES: u64 = 4 << 20;

/// What the two files say of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subordinate {
    /// First ids and numbers of ids.
    pub(super) users: Vec<(u32, u32)>,
    pub(super) groups: Vec<(u32, u32)>,
}

impl Subordinate {
    /// Those of the user with the id.
    pub(super) fn of(user: nix::unistd::Uid) -> Self {
        let name = User::from_uid(user).ok().flatten().map(|it| it.name);
        let ranges = |path| {
            let path = Path::new(path);
            let readable = fs::metadata(path).is_ok_and(|it| it.len() <= MOST_BYTES);
            let text = readable.then(|| fs::read_to_string(path).ok()).flatten();
            parse(
                &text.unwrap_or_default(),
                name.as_deref(),
                &user.to_string(),
            )
        };
        Self {
            users: ranges("/etc/subuid"),
            groups: ranges("/etc/subgid"),
        }
    }
}

/// The ranges of the lines that begin with the user's name or number.
fn parse(text: &str, name: Option<&str>, number: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner != number {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let fits = count > 0 && u32::checked_add(first, count).is_some();
        fits.then_some((first, count))
    };
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for (first, count) in text.lines().filter_map(range) {
        // A map must not have an id twice.
        let overlaps = |other: &(u32, u32)| first < other.0 + other.1 && other.0 < first + count;
        if !ranges.iter().any(overlaps) {
            ranges.push((first, count));
        }
    }
    ranges
}

/// The user's own id is 0 inside, and the others follow on it.
pub(super) fn behind(own: u32, others: &[(u32, u32)]) -> IdMap {
    let first = IdRange {
        inside: 0,
        outside: own,
        count: 1,
    };
    let mut next = 1_u32;
    let others = others.iter().map_while(|(outside, count)| {
        let count = (*count).min(u32::MAX - next);
        let range = IdRange {
            inside: next,
            outside: *outside,
            count,
        };
        next += count;
        (count > 0).then_some(range)
    });
    std::iter::once(first).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "root:1:5\nann:100000:65536\n# ann:1:1\n1000:300000:10\nbob:7:7\n\
                        ann:x:1\nann:5\nann:165530:9\nann:4294967295:2\nann:9:0\n";

    #[test]
    fn lines_name_a_user_by_name_or_number() {
        let ranges = parse(FILE, Some("ann"), "1000");
        assert_eq!(ranges, [(100_000, 65536), (300_000, 10)]);
        assert_eq!(parse(FILE, None, "1000"), [(300_000, 10)]);
        assert_eq!(parse(FILE, Some("eve"), "1001"), []);
    }

    #[test]
    fn the_user_is_root_and_all_ranges_follow() {
        let map = behind(1000, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(
            map.to_string(),
            "0 1000 1\n1 100000 65536\n65537 300000 10\n"
        );
        assert!(behind(1000, &[]).is_single());
    }
}
