//! Owners of files where there are not all ids: in a user namespace.

use nix::unistd::{Gid, Uid};

use crate::sys::idmap::IdMap;

/// The ids that files can be given.
#[derive(Debug)]
pub(super) struct Owners {
    users: IdMap,
    groups: IdMap,
    /// Files get the ids that those of the archive are mapped to.
    mapped: bool,
}

impl Owners {
    /// Those of this process's user namespace.
    pub(super) fn here() -> Self {
        Self {
            users: IdMap::of_users().unwrap_or_default(),
            groups: IdMap::of_groups().unwrap_or_default(),
            mapped: false,
        }
    }

    /// Those of a container, which are others here.
    pub(super) fn mapped((users, groups): (IdMap, IdMap)) -> Self {
        Self {
            users,
            groups,
            mapped: true,
        }
    }

    /// Whether Linux has such ids. The last number means "leave it" to chown(2).
    pub(super) fn is_possible(id: u64) -> bool {
        id < u64::from(u32::MAX)
    }

    /// The user that an archive names; `None` where there is no such.
    pub(super) fn user(&self, id: u64) -> Option<Uid> {
        self.here_of(&self.users, id).map(Uid::from_raw)
    }

    /// The group that an archive names.
    pub(super) fn group(&self, id: u64) -> Option<Gid> {
        self.here_of(&self.groups, id).map(Gid::from_raw)
    }

    fn here_of(&self, map: &IdMap, id: u64) -> Option<u32> {
        let id = known(map, id)?;
        match self.mapped {
            true => map.outside_of(id),
            false => Some(id),
        }
    }
}

/// Where there is only one id, everything belongs to it, as its user has been told.
fn known(map: &IdMap, id: u64) -> Option<u32> {
    let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX)?;
    match map.ranges() {
        [only] if only.count == 1 => Some(only.inside),
        // Without /proc nothing is known of it.
        [] => Some(id),
        _ => map.contains(id).then_some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::idmap::IdRange;

    fn map(ranges: &[(u32, u32)]) -> IdMap {
        let range = |(inside, count): &(u32, u32)| IdRange {
            inside: *inside,
            outside: 5,
            count: *count,
        };
        ranges.iter().map(range).collect()
    }

    #[test]
    fn an_id_has_to_be_there() {
        let all = map(&[(0, u32::MAX)]);
        assert_eq!(known(&all, 4_000_000_000), Some(4_000_000_000));
        assert_eq!(known(&all, u64::from(u32::MAX)), None);
        assert_eq!(known(&all, 1 << 32), None);
        let some = map(&[(0, 1), (1, 65536)]);
        assert_eq!(known(&some, 65536), Some(65536));
        assert_eq!(known(&some, 65537), None);
    }

    #[test]
    fn a_containers_ids_are_others_here() {
        let ids = || map(&[(0, 100)]);
        let owners = Owners::mapped((ids(), ids()));
        assert_eq!(owners.user(33), Some(Uid::from_raw(38)));
        assert_eq!(owners.group(100), None);
    }

    #[test]
    fn the_only_id_owns_all() {
        assert_eq!(known(&map(&[(0, 1)]), 33), Some(0));
        assert_eq!(known(&map(&[(0, 1)]), 1 << 32), None);
    }
}
