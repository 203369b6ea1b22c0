//! Whether what is mounted below a folder can be shared with a container:
//! mount_namespaces(7). A mount that is private to the machine has nobody to
//! share with, and a container that asks for it would wait in vain.

use std::path::Path;

use isolazi_protocol::{BindMount, Propagation, WireError};

use crate::container::checks::invalid;

const MOUNTS: &str = "/proc/self/mountinfo";

/// Checks that `source` lies in a mount that can be shared as asked.
pub(super) fn check(mount: &BindMount, source: &Path) -> Result<(), WireError> {
    if mount.propagation.is_private() {
        return Ok(());
    }
    let table = std::fs::read_to_string(MOUNTS).unwrap_or_default();
    // What a link leads to is where it is.
    let place = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let found = mount_of(&table, &place);
    let (fits, wanted) = match mount.propagation {
        Propagation::Slave | Propagation::RSlave => (
            found.is_some_and(|it| it.is_shared || it.is_slave),
            "neither shared nor a slave",
        ),
        _ => (found.is_some_and(|it| it.is_shared), "not shared"),
    };
    match fits {
        true => Ok(()),
        false => Err(invalid(format!(
            "the mount that {} lies in is {wanted}, so it cannot be {}: make it shared (mount --make-shared), or leave the propagation out",
            mount.host_path,
            mount.propagation.name()
        ))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    is_shared: bool,
    is_slave: bool,
}

/// The mount that `place` lies in: of those with the longest path the last, as
/// it lies over the others.
fn mount_of(table: &str, place: &Path) -> Option<Kind> {
    let mounts = table.lines().filter_map(parse);
    let around = mounts.filter(|(at, _)| place.starts_with(at));
    let found = around.max_by_key(|(at, _)| Path::new(at).components().count());
    found.map(|(_, kind)| kind)
}

/// A line of the table (proc_pid_mountinfo(5)): where it is, and how it is shared.
fn parse(line: &str) -> Option<(String, Kind)> {
    let mut fields = line.split(' ');
    let at = unescape(fields.nth(4)?);
    // Its options come first, and a dash ends those in question.
    let mut optional = fields.skip(1).take_while(|field| *field != "-");
    let kind = optional.try_fold(
        Kind {
            is_shared: false,
            is_slave: false,
        },
        |kind, field| {
            Some(Kind {
                is_shared: kind.is_shared || field.starts_with("shared:"),
                is_slave: kind.is_slave || field.starts_with("master:"),
            })
        },
    )?;
    Some((at, kind))
}

/// Blanks and backslashes are written in octal there.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, character)| {
        text.replace(code, character)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 0:21 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /srv rw shared:5 - tmpfs x rw
31 30 0:31 / /srv/a\\040b rw,nosuid shared:7 master:5 - tmpfs x rw
32 30 0:32 / /srv/slave rw master:5 propagate_from:2 - tmpfs x rw
33 30 0:33 / /srv/over rw shared:9 - tmpfs x rw
34 33 0:34 / /srv/over rw - tmpfs x rw
";

    #[test]
    fn the_mount_that_a_place_lies_in_says_how_it_is_shared() {
        for (place, is_shared, is_slave) in [
            ("/etc", false, false),
            ("/srvx", false, false),
            ("/srv/x/y", true, false),
            ("/srv/a b/c", true, true),
            ("/srv/slave", false, true),
            ("/srv/over/x", false, false),
        ] {
            let kind = Kind {
                is_shared,
                is_slave,
            };
            assert_eq!(mount_of(TABLE, Path::new(place)), Some(kind), "{place}");
        }
        assert_eq!(mount_of("", Path::new("/")), None);
    }
}
