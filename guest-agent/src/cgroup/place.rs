//! Where a container's cgroup is: from `/proc/self/cgroup`, and the places
//! where every distribution mounts the hierarchies.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isolazi_protocol::ContainerId;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, Pid, access};

use super::Hierarchy;
use crate::sys::idmap::is_nested;

const MOUNTS: &str = "/sys/fs/cgroup";
/// Name of the unified hierarchy's folder beside those of v1.
const UNIFIED: &str = "unified";

/// The v1 controllers that limit or account for something of a container.
const CONTROLLERS: [&str; 8] = [
    "pids", "memory", "cpu", "cpuacct", "cpuset", "devices", "freezer", "blkio",
];

/// One line of a `/proc/<pid>/cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Membership<'a> {
    /// Empty for the unified hierarchy.
    controllers: Vec<&'a str>,
    /// Name of its folder among [`MOUNTS`].
    name: &'a str,
    /// Path below the hierarchy's root, without the leading slash.
    path: &'a str,
}

/// Where a container's folders `path` are to be: beside our own groups, or below
/// the hierarchy's root where it starts with a slash.
pub(super) fn own_hierarchies(path: &str) -> Vec<Hierarchy> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut all = hierarchies(&own, |mount, own| match path.strip_prefix('/') {
        Some(path) => mount.join(path),
        None => base_of(mount, own).join(path),
    });
    if is_nested() {
        all.retain(|it| is_delegated(&it.folder));
    }
    all
}

/// Where containers' folders would be that nobody has placed elsewhere.
pub(crate) fn available() -> Vec<Hierarchy> {
    own_hierarchies("isolazi")
}

/// Whether somebody who is not the machine's root may make the folder, and move
/// processes there: those above it are the user's as far as it matters.
fn is_delegated(folder: &Path) -> bool {
    let above = folder.ancestors().skip(1).find(|it| it.is_dir());
    let may_write = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    above.is_some_and(|above| may_write(above) && may_write(&above.join("cgroup.procs")))
}

/// The folders of a process's own groups.
pub(super) fn hierarchies_of(pid: Pid) -> Vec<Hierarchy> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = hierarchies(&groups, |mount, own| mount.join(own));
    // Where it has none of its own, others are not to enter what it is in.
    // Neither are those of a user who has no groups.
    let may_lack = |it: &Hierarchy| it.controls("cpuset") || is_nested();
    let is_own = |it: &Hierarchy| !may_lack(it) || has_limited(&it.folder);
    found.retain(is_own);
    found
}

/// Whether a folder is one that we have made for a container.
fn has_limited(folder: &Path) -> bool {
    let name = folder.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.parse::<ContainerId>().is_ok())
}

fn hierarchies(groups: &str, place: impl Fn(&Path, &str) -> PathBuf) -> Vec<Hierarchy> {
    let is_unified = statfs(MOUNTS).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC);
    memberships(groups)
        .filter(|group| group.controllers.is_empty() || !is_unified)
        .filter_map(|group| {
            let mount = match is_unified {
                true => PathBuf::from(MOUNTS),
                false => Path::new(MOUNTS).join(group.name),
            };
            // The root of a hierarchy that is not mounted is no cgroup.
            mount.join("cgroup.procs").exists().then(|| Hierarchy {
                name: group.name.to_owned(),
                folder: place(&mount, group.path),
                controllers: group
                    .controllers
                    .iter()
                    .map(|it| (*it).to_owned())
                    .collect(),
            })
        })
        .collect()
}

/// The folder that our own group lies in. A group that the mount does not show
/// (we are in a container that was given only a part) counts as its root.
fn base_of(mount: &Path, own: &str) -> PathBuf {
    let parent = Path::new(own).parent().unwrap_or(Path::new(""));
    let base = mount.join(parent);
    if base.is_dir() {
        base
    } else {
        mount.to_owned()
    }
}

/// The hierarchies of use, the unified one last (it is number 0 of the list).
fn memberships(groups: &str) -> impl Iterator<Item = Membership<'_>> {
    groups.lines().filter_map(membership)
}

fn membership(line: &str) -> Option<Membership<'_>> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (names, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
    if names.is_empty() {
        return Some(Membership {
            controllers: Vec::new(),
            name: UNIFIED,
            path,
        });
    }
    let controllers: Vec<&str> = names.split(',').collect();
    let of_use = controllers.iter().any(|it| CONTROLLERS.contains(it));
    of_use.then_some(Membership {
        controllers,
        name: names,
        path,
    })
}

/// Makes the folder and the one it lies in, where they are missing.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(folder),
        other => other,
    }
}

/// Every folder named `path` in any hierarchy: where we would put it now, or,
/// where a process elsewhere put it, wherever it is.
pub(super) fn find(path: &str) -> Vec<Hierarchy> {
    let mut found = own_hierarchies(path);
    if !found.iter().any(|hierarchy| hierarchy.folder.is_dir()) {
        search_all(&mut found, path);
    }
    found.retain(|hierarchy| hierarchy.folder.is_dir());
    found
}

/// Looks for `path` all over. A container is in all hierarchies or in none, so
/// the first one tells whether to look through the others.
fn search_all(hierarchies: &mut [Hierarchy], path: &str) {
    for hierarchy in hierarchies {
        match search(&mount_of(&hierarchy.name), path.trim_start_matches('/')) {
            Some(folder) => hierarchy.folder = folder,
            // Where it is only in if that was asked for.
            None if hierarchy.controls("cpuset") => {}
            None => return,
        }
    }
}

fn mount_of(name: &str) -> PathBuf {
    let own = Path::new(MOUNTS).join(name);
    if own.join("cgroup.procs").exists() {
        own
    } else {
        PathBuf::from(MOUNTS)
    }
}

/// Looks through a hierarchy, breadth first.
fn search(mount: &Path, path: &str) -> Option<PathBuf> {
    const MOST_FOLDERS: usize = 20_000;
    let mut queue = std::collections::VecDeque::from([mount.to_owned()]);
    for _ in 0..MOST_FOLDERS {
        let folder = queue.pop_front()?;
        let candidate = folder.join(path);
        if candidate.is_dir() {
            return Some(candidate);
        }
        queue.extend(folders_in(&folder));
    }
    None
}

/// The groups directly below a group.
pub(crate) fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/api/13fb\n3:cpuset:/\n\
                          2:cpu,cpuacct:/\n0::/user.slice/session-1.scope\n";

    #[test]
    fn hierarchies_of_use_are_taken_from_the_list() {
        let names: Vec<_> = memberships(HYBRID).map(|it| (it.name, it.path)).collect();
        assert_eq!(
            names,
            [
                ("pids", ""),
                ("memory", "api/13fb"),
                ("cpuset", ""),
                ("cpu,cpuacct", ""),
                (UNIFIED, "user.slice/session-1.scope"),
            ]
        );
    }

    #[test]
    fn a_container_stands_beside_its_launcher() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("slice")).unwrap();
        let base = |own| base_of(mount.path(), own);
        assert_eq!(base("slice/session.scope"), mount.path().join("slice"));
        assert_eq!(base("session.scope"), mount.path());
        assert_eq!(base(""), mount.path());
        assert_eq!(base("not/shown/here"), mount.path());
    }

    #[test]
    fn a_group_made_elsewhere_is_found() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("a/b/isolazi/x");
        std::fs::create_dir_all(&group).unwrap();
        assert_eq!(search(mount.path(), "isolazi/x"), Some(group));
        assert_eq!(search(mount.path(), "isolazi/y"), None);
    }
}
