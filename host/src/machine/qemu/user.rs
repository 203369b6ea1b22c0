//! As whom the machine's programs run where the caller is root: as somebody who
//! owns nothing. A guest that takes its hypervisor over is nobody then.
//!
//! No account has to exist for that: a user is a number to the kernel. Every
//! machine has a number of its own, far above those that are given to people,
//! services, containers and directories (systemd's `UIDS-GIDS.md`, sssd's
//! `ldap_idmap_range_max`), so that machines cannot reach each other, either.
//! Whatever the programs need of root's is opened beforehand and inherited.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::machine::fingerprint::fingerprint;

/// The first number of a machine's user, and how many there are.
const FIRST: u32 = 0x7800_0000;
const COUNT: u64 = 1 << 24;
/// Who is nobody where numbers are few, as in containers.
const NOBODY: u32 = 65_534;
/// Bits of capabilities(7).
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// Somebody without privileges, whose group has the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    id: u32,
    /// Of a device that only a group may use.
    groups: Vec<u32>,
}

/// What this process may do about users.
#[derive(Debug, Default)]
struct Powers {
    uid_map: String,
    gid_map: String,
    capabilities: u64,
    may_set_groups: bool,
}

impl Powers {
    fn own() -> Self {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self {
            uid_map: read("uid_map"),
            gid_map: read("gid_map"),
            capabilities: effective(&read("status")),
            may_set_groups: read("setgroups").trim() != "deny",
        }
    }

    fn suffice(&self) -> bool {
        let needed = CAP_SETGID | CAP_SETUID;
        self.may_set_groups && self.capabilities & needed == needed
    }
}

impl User {
    /// The user of the machine in `folder`; `None` where the caller is not root, or
    /// has not the power to become anybody else.
    pub(super) fn of_machine(folder: &Path) -> Option<Self> {
        geteuid()
            .is_root()
            .then(|| Self::among(&Powers::own(), folder))
            .flatten()
    }

    fn among(powers: &Powers, folder: &Path) -> Option<Self> {
        if !powers.suffice() {
            return None;
        }
        let exists = |id: &u32| maps(&powers.uid_map, *id) && maps(&powers.gid_map, *id);
        let id = [number(folder), NOBODY].into_iter().find(exists)?;
        Some(Self { id, groups: vec![] })
    }

    /// The same user as a member of the group that `device` may need; `None` where
    /// no group may use it.
    pub(super) fn using(&self, device: &Path) -> Option<Self> {
        const READ_AND_WRITE: u32 = 0o6;
        let found = fs::metadata(device).ok()?;
        if !found.file_type().is_char_device() {
            return None;
        }
        let may = |shift: u32| found.mode() >> shift & READ_AND_WRITE == READ_AND_WRITE;
        if may(0) {
            return Some(self.clone());
        }
        let is_group = may(3) && maps(&Powers::own().gid_map, found.gid());
        is_group.then(|| Self {
            groups: vec![found.gid()],
            ..self.clone()
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            id: FIRST,
            groups: vec![],
        }
    }

    /// Whether he can execute `program`, which everybody else can then, too.
    pub(super) fn can_execute(program: &Path) -> bool {
        const EXECUTE: u32 = 0o1;
        let Ok(program) = fs::canonicalize(program) else {
            return false;
        };
        program.ancestors().all(|path| {
            fs::metadata(path).is_ok_and(|it| it.permissions().mode() & EXECUTE == EXECUTE)
        })
    }

    /// Becomes this user, for good.
    pub(super) fn assume(&self) -> io::Result<()> {
        // Whoever changes his identity forgets with whom he was to die.
        let deadly = prctl::get_pdeathsig()?;
        // Where that is not allowed, no_new_privs keeps what is in it out of reach.
        let _ = crate::sys::empty_bounding_set();
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups)?;
        let (uid, gid) = (Uid::from_raw(self.id), Gid::from_raw(self.id));
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        crate::sys::empty_capability_sets()?;
        prctl::set_pdeathsig(deadly)?;
        prctl::set_no_new_privs()?;
        Ok(())
    }
}

/// The same for a machine each time.
fn number(folder: &Path) -> u32 {
    // Below COUNT, and so in range.
    FIRST + (fingerprint(folder) % COUNT) as u32
}

/// The effective capabilities of a process by its status (proc_pid_status(5)).
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether a number exists in this user namespace (user_namespaces(7)).
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        match (first, count) {
            (Some(Ok(first)), Some(Ok(count))) => (first..first + count).contains(&id.into()),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ALONE: &str = "ISOLAZI_TEST_ALONE";
    const ALL: &str = "         0          0 4294967295\n";

    fn powers() -> Powers {
        Powers {
            uid_map: ALL.to_owned(),
            gid_map: ALL.to_owned(),
            capabilities: CAP_SETGID | CAP_SETUID,
            may_set_groups: true,
        }
    }

    fn id(powers: &Powers) -> Option<u32> {
        User::among(powers, Path::new("/a/machine")).map(|user| user.id)
    }

    #[test]
    fn every_machine_has_a_user_of_its_own() {
        let one = id(&powers()).unwrap();
        assert_eq!(id(&powers()), Some(one));
        assert!((FIRST..FIRST + COUNT as u32).contains(&one));
        let other = User::among(&powers(), Path::new("/b/machine")).unwrap();
        assert_ne!(other.id, one);
    }

    #[test]
    fn where_numbers_are_few_it_is_nobody() {
        let few = "0 100000 65536\n".to_owned();
        let powers = Powers {
            uid_map: few.clone(),
            gid_map: few,
            ..powers()
        };
        assert_eq!(id(&powers), Some(NOBODY));
    }

    #[test]
    fn who_cannot_become_anybody_stays_who_he_is() {
        let only_himself = || "0 1000 1\n".to_owned();
        for lacking in [
            Powers {
                uid_map: only_himself(),
                ..powers()
            },
            Powers {
                gid_map: only_himself(),
                ..powers()
            },
            Powers {
                capabilities: CAP_SETUID,
                ..powers()
            },
            Powers {
                may_set_groups: false,
                ..powers()
            },
            Powers::default(),
        ] {
            assert_eq!(id(&lacking), None, "{lacking:?}");
        }
    }

    #[test]
    fn the_capabilities_that_count_are_the_effective_ones() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t00000000000000c0\n";
        assert_eq!(effective(status), CAP_SETGID | CAP_SETUID);
        assert_eq!(effective("Name:\tx\n"), 0);
    }

    #[test]
    fn a_device_for_all_takes_no_group_and_what_is_no_device_none_at_all() {
        let user = User::for_tests();
        assert_eq!(user.using(Path::new("/dev/null")).as_ref(), Some(&user));
        assert_eq!(user.using(Path::new("/etc/passwd")), None);
        assert_eq!(user.using(Path::new("/dev/no-such-device")), None);
    }

    #[test]
    fn a_program_in_somebodys_private_folder_is_his_alone() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path(), private).unwrap();
        assert!(!User::can_execute(&program), "its folder is private");
        assert!(User::can_execute(Path::new("/bin/sh")));
        assert!(!User::can_execute(Path::new("/etc/passwd")));
    }

    #[test]
    fn who_has_become_nobody_can_do_nothing_and_not_go_back() {
        let Some(user) = User::of_machine(Path::new("/a/machine")) else {
            crate::output::warning("skipped: this takes root, who may become somebody else");
            return;
        };
        // For good, so in a process of its own, in which only this test is run.
        if std::env::var_os(ALONE).is_none() {
            let name =
                "machine::qemu::user::tests::who_has_become_nobody_can_do_nothing_and_not_go_back";
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", name]).env(ALONE, "1");
            let output = again.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            assert!(said.contains("1 passed"), "{said}");
            return;
        }
        user.assume().unwrap();
        // Of threads, as the kernel has it; the C library does not always.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().replace('\t', " ")
        };
        let ids = [user.id.to_string().as_str(); 4].join(" ");
        assert_eq!((line("Uid:"), line("Gid:")), (ids.clone(), ids));
        assert_eq!(line("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{set}");
        }
        assert_eq!(line("NoNewPrivs:"), "1");
        let root = Uid::from_raw(0);
        assert!(setresuid(root, root, root).is_err());
    }
}
