//! Which ids a container has: what was asked for, as what is possible here.

use std::fs::File;
use std::io;
use std::path::Path;

use isolazi_protocol::{ErrorCode, IdMapping, UserNamespace, WireError};

use crate::container::checks::invalid;
use crate::launch::plan::{StoredIds, UsernsPlan};
use crate::sys::idmap::{IdMap, is_nested};

/// So many ids images need: as many as two bytes hold, as everywhere.
const SPAN: u32 = 1 << 16;
/// Where ids for containers begin that nobody else hands out: above those of systemd
/// (which end at 0x6fff_ffff) and of subuid files, and below 2^31.
const FIRST: u32 = 0x7000_0000;
/// So many containers have some there.
const SPANS: u32 = 0x0fff;
/// Most lines of a map (user_namespaces(7)).
const MOST_LINES: usize = 340;

/// Checks what does not depend on the machine.
pub(super) fn validate(asked: &UserNamespace) -> Result<(), WireError> {
    let UserNamespace::Mapped { users, groups } = asked else {
        return Ok(());
    };
    for (option, map) in [("--uid-map", users), ("--gid-map", groups)] {
        if map.len() > MOST_LINES {
            return Err(invalid(format!(
                "{option} is given more than {MOST_LINES} times"
            )));
        }
        if !map.iter().any(|it| it.container == 0) {
            return Err(invalid(format!(
                "{option} has to say who the container's root is: give one that begins with 0, such as 0:100000:65536"
            )));
        }
        no_overlap(option, map, |it| it.container)?;
        no_overlap(option, map, |it| it.host)?;
    }
    Ok(())
}

fn no_overlap(
    option: &str,
    map: &[IdMapping],
    first: impl Fn(&IdMapping) -> u32,
) -> Result<(), WireError> {
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_by_key(|it| first(it));
    let meets = |pair: &&[&IdMapping]| {
        u64::from(first(pair[0])) + u64::from(pair[0].size) > u64::from(first(pair[1]))
    };
    match sorted.windows(2).find(meets) {
        None => Ok(()),
        Some(pair) => Err(invalid(format!(
            "{option} {} and {option} {} have ids in common; give each once",
            pair[0], pair[1]
        ))),
    }
}

/// Nobody else takes ids as long as it is held.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it is unlocked when it is closed")] Option<File>);

/// The user namespace of a new container. `others` are those of all containers, and the
/// hold is to be kept until they are this one's, too.
pub fn resolve(
    asked: &UserNamespace,
    engine: &Path,
    others: impl FnOnce() -> Vec<UsernsPlan>,
) -> Result<(Option<UsernsPlan>, Hold), WireError> {
    let nested = is_nested();
    let plan = match asked {
        UserNamespace::Host => None,
        UserNamespace::Rootless if nested => None,
        UserNamespace::Auto if nested => {
            return Err(WireError::new(
                ErrorCode::Unsupported,
                "--userns auto needs root, who alone can show files with other owners; a rootless container is in a user namespace anyway: leave it out",
            ));
        }
        UserNamespace::Rootless | UserNamespace::Auto => {
            let hold = hold(engine).map_err(|error| {
                let message = format!("cannot lock the ids of containers: {error}");
                WireError::new(ErrorCode::Internal, message)
            })?;
            return Ok((Some(free(&others())?), Hold(Some(hold))));
        }
        UserNamespace::Mapped { users, groups } if nested => Some(within(users, groups)?),
        UserNamespace::Mapped { users, groups } => Some(UsernsPlan {
            users: users.clone(),
            groups: groups.clone(),
            stored: StoredIds::Containers,
        }),
    };
    Ok((plan, Hold(None)))
}

fn hold(engine: &Path) -> io::Result<File> {
    let file = File::create(engine.join("userns.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Ids that none of the others has.
fn free(others: &[UsernsPlan]) -> Result<UsernsPlan, WireError> {
    let ranges = || {
        others
            .iter()
            .flat_map(|it| it.users.iter().chain(&it.groups))
    };
    let is_free = |first: &u32| {
        let (first, end) = (u64::from(*first), u64::from(*first) + u64::from(SPAN));
        let meets = |it: &IdMapping| {
            u64::from(it.host) < end && first < u64::from(it.host) + u64::from(it.size)
        };
        !ranges().any(meets)
    };
    let first = (0..SPANS).map(|index| FIRST + index * SPAN).find(is_free);
    let first = first.ok_or_else(|| {
        WireError::new(
            ErrorCode::Conflict,
            format!("{SPANS} containers have all ids there are for --userns auto; remove some"),
        )
    })?;
    let all = vec![IdMapping {
        container: 0,
        host: first,
        size: SPAN,
    }];
    Ok(UsernsPlan {
        users: all.clone(),
        groups: all,
        stored: StoredIds::Containers,
    })
}

/// What a user who is not root has mapped, in terms of the user's own namespace.
fn within(users: &[IdMapping], groups: &[IdMapping]) -> Result<UsernsPlan, WireError> {
    let read = |map: io::Result<IdMap>| {
        map.map_err(|error| {
            let message = format!("cannot read the user namespace's ids: {error}");
            WireError::new(ErrorCode::Internal, message)
        })
    };
    let users = translate("--uid-map", "user", users, &read(IdMap::of_users())?)?;
    let groups = translate("--gid-map", "group", groups, &read(IdMap::of_groups())?)?;
    // Files of images have been given these ids, and only root can show them with others.
    let is_same = |it: &IdMapping| it.container == it.host;
    Ok(UsernsPlan {
        stored: match users.iter().chain(&groups).all(is_same) {
            true => StoredIds::Same,
            false => StoredIds::Mapped,
        },
        users,
        groups,
    })
}

/// Each id has to be one of the user's.
fn translate(
    option: &str,
    kind: &str,
    asked: &[IdMapping],
    own: &IdMap,
) -> Result<Vec<IdMapping>, WireError> {
    let mut found: Vec<IdMapping> = Vec::new();
    for mapping in asked {
        let mut done = 0;
        while done < mapping.size {
            let (container, host) = (mapping.container + done, mapping.host + done);
            let range = own.ranges().iter().find(|it| {
                host.checked_sub(it.outside)
                    .is_some_and(|offset| offset < it.count)
            });
            let Some(range) = range else {
                return Err(invalid(format!(
                    "{option} {mapping}: {kind} {host} is not yours to map; use ids of {}",
                    listed(own, kind)
                )));
            };
            let inside = range.inside + (host - range.outside);
            let size = (range.count - (host - range.outside)).min(mapping.size - done);
            found.push(IdMapping {
                container,
                host: inside,
                size,
            });
            done += size;
        }
    }
    Ok(found)
}

/// A container's users as those of the host.
pub(super) fn seen_outside(plan: &UsernsPlan) -> UserNamespace {
    let shown = |ids: &[IdMapping], own: io::Result<IdMap>| {
        let own = own.unwrap_or_default();
        let mapping = |it: &IdMapping| IdMapping {
            host: own.outside_of(it.host).unwrap_or(it.host),
            ..*it
        };
        ids.iter().map(mapping).collect()
    };
    UserNamespace::Mapped {
        users: shown(&plan.users, IdMap::of_users()),
        groups: shown(&plan.groups, IdMap::of_groups()),
    }
}

/// The ids that there are, for people.
fn listed(own: &IdMap, kind: &str) -> String {
    let range = |it: &crate::sys::idmap::IdRange| match it.count {
        1 => format!("your own {}", it.outside),
        count => format!("{}-{}", it.outside, it.outside + (count - 1)),
    };
    let ranges: Vec<_> = own.ranges().iter().map(range).collect();
    match own.is_single() {
        true => format!(
            "{} (/etc/sub{}id has no others for you)",
            ranges.join(", "),
            &kind[..1]
        ),
        false => ranges.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::idmap::IdRange;

    fn mappings(texts: &[&str]) -> Vec<IdMapping> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn own() -> IdMap {
        let ranges = [(0, 1000, 1), (1, 100_000, 65_536)];
        let range = |(inside, outside, count)| IdRange {
            inside,
            outside,
            count,
        };
        ranges.map(range).into_iter().collect()
    }

    fn checked(users: &[&str], groups: &[&str]) -> Result<(), String> {
        let asked = UserNamespace::Mapped {
            users: mappings(users),
            groups: mappings(groups),
        };
        validate(&asked).map_err(|error| error.message)
    }

    #[test]
    fn maps_have_a_root_and_each_id_once() {
        checked(&["0:1000:1", "1:100000:5"], &["0:5:1"]).unwrap();
        for (users, complaint) in [
            (&["1:1000:1"][..], "root"),
            (&[], "root"),
            (&["0:1:5", "4:100:1"], "in common"),
            (&["0:1:5", "5:3:1"], "in common"),
        ] {
            let said = checked(users, &["0:5:1"]).unwrap_err();
            assert!(said.contains(complaint), "{said}");
        }
        assert!(
            checked(&["0:1:1"], &["1:1:1"])
                .unwrap_err()
                .contains("--gid-map")
        );
    }

    #[test]
    fn no_two_containers_have_an_id_in_common() {
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(free(&taken).unwrap());
        }
        let first = |plan: &UsernsPlan| plan.users[0].host;
        let firsts: Vec<_> = taken.iter().map(first).collect();
        assert_eq!(firsts, [FIRST, FIRST + SPAN, FIRST + 2 * SPAN]);
        // What is given back is used again, and what somebody mapped is not.
        taken.remove(1);
        assert_eq!(first(&free(&taken).unwrap()), FIRST + SPAN);
        let mapped = UsernsPlan {
            users: mappings(&["0:5:1", &format!("1:{}:1", FIRST + SPAN + 7)]),
            groups: vec![],
            stored: StoredIds::Containers,
        };
        taken.push(mapped);
        assert_eq!(first(&free(&taken).unwrap()), FIRST + 3 * SPAN);
    }

    #[test]
    fn an_ordinary_user_maps_what_is_the_users() {
        let translated = |texts: &[&str]| {
            translate("--uid-map", "user", &mappings(texts), &own()).map_err(|it| it.message)
        };
        assert_eq!(translated(&["0:1000:1"]), Ok(mappings(&["0:0:1"])));
        assert_eq!(
            translated(&["0:1000:1", "1:100000:999"]),
            Ok(mappings(&["0:0:1", "1:1:999"]))
        );
        // Across the user's own id and the first of the others.
        assert_eq!(
            translated(&["0:100000:1000", "1000:1000:1"]),
            Ok(mappings(&["0:1:1000", "1000:0:1"]))
        );
        for (asked, complaint) in [
            (
                "0:0:1",
                "user 0 is not yours to map; use ids of your own 1000, 100000-165535",
            ),
            ("0:1000:2", "user 1001 is not yours"),
        ] {
            let said = translated(&[asked]).unwrap_err();
            assert!(said.contains(complaint), "{said}");
        }
    }
}
