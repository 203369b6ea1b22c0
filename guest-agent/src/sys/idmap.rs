//! How the ids of a user namespace are those of the one above it:
//! user_namespaces(7), `/proc/<pid>/uid_map`.

use std::fmt;
use std::fs;
use std::io;

use nix::unistd::Pid;

/// Consecutive ids of a namespace, and where they begin in the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// So many.
    pub count: u32,
}

impl IdRange {
    fn contains(&self, inside: u32) -> bool {
        inside
            .checked_sub(self.inside)
            .is_some_and(|it| it < self.count)
    }
}

/// All ids of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

impl FromIterator<IdRange> for IdMap {
    fn from_iter<I: IntoIterator<Item = IdRange>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        Self(ranges)
    }
}

impl fmt::Display for IdMap {
    /// As the kernel wants it written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| {
            let (inside, outside, count) = (it.inside, it.outside, it.count);
            writeln!(f, "{inside} {outside} {count}")
        })
    }
}

impl IdMap {
    /// Those of the calling process's user ids.
    pub fn of_users() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/uid_map")?))
    }

    /// Those of the calling process's group ids.
    pub fn of_groups() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/gid_map")?))
    }

    fn parse(text: &str) -> Self {
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRange {
                inside: next()?,
                outside: next()?,
                count: next()?,
            })
        };
        text.lines().filter_map(range).collect()
    }

    /// By ascending ids inside.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// Whether it is that of a machine's first namespace, where every id is itself.
    pub fn is_whole(&self) -> bool {
        matches!(
            self.0[..],
            [IdRange {
                inside: 0,
                outside: 0,
                count: u32::MAX
            }]
        )
    }

    /// Whether there is only one.
    pub fn is_single(&self) -> bool {
        matches!(self.0[..], [IdRange { count: 1, .. }])
    }

    /// Whether the namespace has the id.
    pub fn contains(&self, inside: u32) -> bool {
        self.0.iter().any(|range| range.contains(inside))
    }

    /// The last id of those that follow on 0 without a gap.
    pub fn last_from_zero(&self) -> Option<u32> {
        let mut next = 0_u32;
        for range in &self.0 {
            if range.inside != next {
                break;
            }
            next = next.saturating_add(range.count);
        }
        next.checked_sub(1)
    }

    /// The last id of the namespace that `map` maps nothing to.
    pub fn last_but(&self, map: &Self) -> Option<u32> {
        let ranges = self.0.iter().rev();
        let mut ids = ranges.flat_map(|it| (it.inside..=it.inside + (it.count - 1)).rev());
        ids.find(|id| map.inside_of(*id).is_none())
    }

    /// The id above of one of the namespace.
    pub fn outside_of(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = inside.checked_sub(range.inside)?;
            (offset < range.count).then(|| range.outside + offset)
        })
    }

    /// The id inside of one of the namespace above.
    pub fn inside_of(&self, outside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = outside.checked_sub(range.outside)?;
            (offset < range.count).then(|| range.inside + offset)
        })
    }
}

/// Whether the calling process is in a user namespace that somebody has made. One
/// whose maps cannot be read is in none.
pub fn is_nested() -> bool {
    IdMap::of_users().is_ok_and(|map| !map.is_whole())
}

/// Gives the user namespace of a process, which has none yet, its ids.
pub fn assign(pid: Pid, users: &IdMap, groups: &IdMap) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/uid_map"), users.to_string())?;
    fs::write(format!("/proc/{pid}/gid_map"), groups.to_string())
}

/// The same with one id of each, the caller's own, which needs no privilege. No
/// process of the namespace can then change its groups (user_namespaces(7)).
pub fn assign_own(pid: Pid) -> io::Result<()> {
    let only = |outside| {
        IdMap::from_iter([IdRange {
            inside: 0,
            outside,
            count: 1,
        }])
    };
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    let users = only(nix::unistd::geteuid().as_raw());
    assign(pid, &users, &only(nix::unistd::getegid().as_raw()))
}

/// Whether processes of this namespace may change their supplementary groups.
pub fn may_set_groups() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTLESS: &str = "         1     100000      65536\n         0       1000          1\n";

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let map = IdMap::parse(ROOTLESS);
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 65536\n");
        assert!(map.contains(0) && map.contains(65536) && !map.contains(65537));
        assert_eq!(map.last_from_zero(), Some(65536));
        assert_eq!(map.inside_of(1000), Some(0));
        assert_eq!(map.inside_of(100_032), Some(33));
        assert_eq!(map.inside_of(165_536), None);
        assert_eq!(map.outside_of(33), Some(100_032));
        assert_eq!(map.outside_of(65_537), None);
        assert!(!map.is_whole() && !map.is_single());
        let children = |text| map.last_but(&IdMap::parse(text));
        assert_eq!(children("0 1 65536"), Some(0));
        assert_eq!(children("0 1 65535"), Some(65536));
        assert_eq!(children("0 0 65537"), None);
    }

    #[test]
    fn the_first_namespace_is_whole() {
        let map = IdMap::parse("         0          0 4294967295\n");
        assert!(map.is_whole() && !map.is_single());
        assert!(IdMap::parse("0 1000 1\n").is_single());
        assert_eq!(IdMap::parse("5 5 5").last_from_zero(), None);
    }
}
