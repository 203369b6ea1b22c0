//! Who a container's process runs as: `user[:group]`, each by name or number,
//! looked up in the container's own `/etc/passwd` and `/etc/group`.
//!
//! The files are the image's, so they are read with a limit, only where they
//! are ordinary files, and without following a link out of the root. The rules
//! are Docker's: a number needs no entry; the supplementary groups are those
//! that list the user, unless a group was asked for.

use std::io::Read;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::error::{At, LaunchError, Stage, to_errno};
use super::resolve::Root;

/// Longest passwd or group file that is read, in bytes.
const MOST_BYTES: u64 = 4 << 20;
/// Highest id of a user or group.
const MOST_ID: u32 = i32::MAX as u32;
/// Most supplementary groups, a limit of the kernel's.
const MOST_GROUPS: usize = 65536;

/// A user, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Home folder, by passwd.
    pub(super) home: Option<String>,
}

/// Resolves `user[:group]`; empty is root. The user is in the `further` groups, too.
pub(super) fn resolve(
    root: &Root,
    wanted: &str,
    further: &[String],
) -> Result<Identity, LaunchError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    let found = find(wanted, &passwd, &group).and_then(|identity| join(identity, further, &group));
    found.map_err(|why| LaunchError::new(Stage::User, why))
}

fn join(mut identity: Identity, further: &[String], group: &str) -> Result<Identity, String> {
    for wanted in further {
        let gid = find_group(wanted, group)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

/// The file's text; empty where there is none.
fn read(root: &Root, path: &str) -> Result<String, LaunchError> {
    let read = || {
        // Not blocking, for a FIFO; the check comes before the first read.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match root.open(path, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Vec::new()),
            other => other?,
        };
        let status = fstat(&file)?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::EINVAL);
        }
        if u64::try_from(status.st_size).is_ok_and(|size| size > MOST_BYTES) {
            return Err(Errno::EFBIG);
        }
        let mut text = Vec::new();
        std::fs::File::from(file)
            .take(MOST_BYTES)
            .read_to_end(&mut text)
            .map_err(to_errno)?;
        Ok(text)
    };
    let text = read().at(Stage::User, || format!("read the container's {path}"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(User {
            name: fields.next().filter(|name| !name.is_empty())?,
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
            home: fields.nth(1).unwrap_or_default(),
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(Group {
            name: fields.next().filter(|name| !name.is_empty())?,
            gid: fields.nth(1)?.parse().ok()?,
            members: fields.next().unwrap_or_default(),
        })
    })
}

fn find(wanted: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id_of(user, "user")?;
    let entry = users(passwd).find(|entry| match number {
        Some(uid) => entry.uid == uid,
        None => entry.name == user,
    });
    let uid = match (&entry, number) {
        (Some(entry), _) => in_range(entry.uid, user)?,
        (None, Some(uid)) => uid,
        (None, None) => return Err(unknown("user", user, "passwd")),
    };
    let (gid, groups) = match wanted_group {
        Some(wanted) => (find_group(wanted, group)?, Vec::new()),
        None => match &entry {
            Some(entry) => (entry.gid, groups_of(entry.name, group)),
            None => (0, Vec::new()),
        },
    };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: entry.map(|entry| entry.home.to_owned()),
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, String> {
    match id_of(wanted, "group")? {
        Some(gid) => Ok(gid),
        None => groups(group)
            .find(|entry| entry.name == wanted)
            .map(|entry| entry.gid)
            .ok_or_else(|| unknown("group", wanted, "group")),
    }
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    groups(group)
        .filter(|entry| entry.members.split(',').any(|member| member == user))
        .map(|entry| entry.gid)
        .take(MOST_GROUPS)
        .collect()
}

/// The number that `text` is, if it is one.
fn id_of(text: &str, kind: &str) -> Result<Option<u32>, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MOST_ID => Ok(Some(id)),
        _ => Err(format!(
            "the {kind} {} is out of range: use a number up to {MOST_ID}",
            excerpt(text)
        )),
    }
}

fn in_range(id: u32, name: &str) -> Result<u32, String> {
    if id <= MOST_ID {
        return Ok(id);
    }
    let name = excerpt(name);
    Err(format!(
        "the user `{name}` has an id out of range in the image's /etc/passwd: use a number"
    ))
}

fn unknown(kind: &str, name: &str, file: &str) -> String {
    let name = excerpt(name);
    format!("no {kind} `{name}` in the image's /etc/{file}: use one that is, or a number")
}

/// The beginning of a name, fit for a message.
fn excerpt(name: &str) -> String {
    name.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n\
                          web:x:33:34:www:/var/www:/bin/false\nhuge:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web,other\nweb2:x:41:webby\n";

    fn found(wanted: &str) -> (u32, u32, Vec<u32>, Option<String>) {
        let identity = find(wanted, PASSWD, GROUP).unwrap();
        (identity.uid, identity.gid, identity.groups, identity.home)
    }

    #[test]
    fn further_groups_are_joined_once() {
        let joined = |further: &[&str]| {
            let further: Vec<String> = further.iter().map(ToString::to_string).collect();
            join(find("web", PASSWD, GROUP).unwrap(), &further, GROUP)
        };
        let groups = joined(&["web2", "7", "logs", "41"]).unwrap().groups;
        assert_eq!(groups, [40, 41, 7]);
        assert!(joined(&["nope"]).unwrap_err().contains("nope"));
    }

    #[test]
    fn names_and_numbers_find_the_same_user() {
        let web = (33, 34, vec![40], Some("/var/www".to_owned()));
        assert_eq!(found("web"), web);
        assert_eq!(found("33"), web);
        assert_eq!(found("web:"), web);
    }

    #[test]
    fn nothing_is_root() {
        assert_eq!(found(""), (0, 0, vec![], Some("/root".to_owned())));
        assert_eq!(found(":web"), (0, 34, vec![], Some("/root".to_owned())));
    }

    #[test]
    fn a_group_replaces_the_users_own() {
        let home = Some("/var/www".to_owned());
        assert_eq!(found("web:logs"), (33, 40, vec![], home.clone()));
        assert_eq!(found("web:7"), (33, 7, vec![], home));
    }

    #[test]
    fn numbers_need_no_entry() {
        assert_eq!(found("1234"), (1234, 0, vec![], None));
        assert_eq!(found("1234:5678"), (1234, 5678, vec![], None));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            "nobody",
            "web:none",
            "4294967296",
            "2147483648",
            "huge",
            "1:99999999999",
        ] {
            let why = find(bad, PASSWD, GROUP).unwrap_err();
            assert!(!why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn only_ordinary_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fd = std::fs::File::open(folder.path()).unwrap();
        let error = resolve(&Root::new(fd.into()), "", &[]).unwrap_err();
        assert_eq!(error.stage, Stage::User);
    }
}
