//! Programs of the machine that see no more of the host's files than they need,
//! by landlock(7), and are nobody where the caller is root. A guest that takes its
//! hypervisor over is in there, too.
//!
//! The rules are set by this program, which then becomes the other one: they
//! hold for all that it ever does.
//!
//! ```text
//!  supervisor ─► isolazi-confined RULES PROGRAM … ─ landlock, execve ─► PROGRAM …
//! ```
//!
//! virtiofsd is left out where it makes its own sandbox of namespaces, which
//! rules about files would keep it from. The supervisor's children inherit its
//! rules, so it has none about files; that it calls nobody by TCP holds from when
//! the hypervisor, which does, has started.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::user::User;
use crate::machine::MachineError;

/// What this program is called where it confines another one.
const ARGV0: &str = "isolazi-confined";
/// What it is called where it tries whether it could be confined otherwise.
const PROBE_ARGV0: &str = "isolazi-namespace-probe";
/// The newest rules that are known; an older kernel keeps those that it knows.
const RULES: ABI = ABI::V6;
/// Where distributions keep programs and their libraries.
const PROGRAMS: [&str; 9] = [
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix", "/gnu",
];
/// What a program looks at to find its libraries and to learn about its machine.
const SYSTEM: [&str; 13] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/qemu",
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/sys/module",
];
/// Devices that give away nothing.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// What a program may do with the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confinement {
    /// Files and folders to read, beside the system's own.
    pub(super) read: Vec<PathBuf>,
    /// Files and folders to do anything with.
    pub(super) write: Vec<PathBuf>,
    /// Connect to and listen at TCP ports.
    pub(super) tcp: bool,
    /// As whom it runs, where that is not the caller.
    #[serde(default)]
    pub(super) user: Option<User>,
}

/// Why a program is not confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// The kernel refuses the rules.
    #[error(transparent)]
    Rules(#[from] RulesetError),
    /// It does not let go of being root.
    #[error("cannot become an unprivileged user")]
    User(#[source] io::Error),
}

impl Confinement {
    /// Holds for this process from now on, as far as the kernel has landlock, which
    /// the result says.
    pub(super) fn enter(&self) -> Result<RulesetStatus, ConfineError> {
        let mut read: Vec<&Path> = PROGRAMS.iter().chain(&SYSTEM).map(Path::new).collect();
        read.extend(self.read.iter().map(PathBuf::as_path));
        let mut write: Vec<&Path> = DEVICES.iter().map(Path::new).collect();
        write.extend(self.write.iter().map(PathBuf::as_path));
        let entered = ruleset(self.tcp)?
            .add_rules(path_beneath_rules(read, AccessFs::from_read(RULES)))?
            .add_rules(path_beneath_rules(write, everything()))?
            .restrict_self()?;
        // Last, as the way to what is allowed may be root's alone.
        if let Some(user) = &self.user {
            user.assume().map_err(ConfineError::User)?;
        }
        Ok(entered.ruleset)
    }

    /// What starts `program` confined.
    pub(super) fn command(&self, program: &Path) -> Result<Command, MachineError> {
        let own =
            std::env::current_exe().map_err(MachineError::io("find", Path::new("isolazi")))?;
        let rules = self.to_json(program)?;
        let mut command = Command::new(own);
        command.arg0(ARGV0).arg(rules).arg(program);
        Ok(command)
    }
}

impl Confinement {
    /// For the command line of `program`, where [`Confinement::from_json`] reads it.
    pub(super) fn to_json(&self, program: &Path) -> Result<String, MachineError> {
        serde_json::to_string(self).map_err(|error| {
            MachineError::Failed(format!("{} cannot be confined: {error}", program.display()))
        })
    }

    pub(super) fn from_json(rules: &OsStr) -> serde_json::Result<Self> {
        serde_json::from_slice(rules.as_encoded_bytes())
    }
}

fn everything() -> BitFlags<AccessFs> {
    AccessFs::from_all(RULES)
}

fn ruleset(tcp: bool) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything())?
        .scope(Scope::from_all(RULES))?;
    if !tcp {
        ruleset = ruleset.handle_access(AccessNet::from_all(RULES))?;
    }
    ruleset.create()
}

/// From now on neither this thread nor what it starts connects to a TCP port, of this
/// host's or another's, and no program gains privileges by being executed. Returns how far
/// the kernel sees to that.
pub(super) fn call_nobody() -> Result<RulesetStatus, RulesetError> {
    let entered = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .restrict_self()?;
    Ok(entered.ruleset)
}

/// Becomes another program, confined, if that is what this process was started for.
pub fn run_if_confined() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != ARGV0 {
        return None;
    }
    let (rules, program) = (arguments.next()?, arguments.next()?);
    // Comes back only where it fails.
    crate::output::failure(&become_program(&rules, &program, arguments));
    Some(ExitCode::FAILURE)
}

/// Whether programs of this user may make a mount namespace of their own, as
/// virtiofsd does. Where a host keeps that from ordinary users (Ubuntu, by
/// AppArmor), only trying tells.
pub(super) async fn can_make_namespaces() -> bool {
    let Ok(own) = std::env::current_exe() else {
        return false;
    };
    let mut command = Command::new(own);
    command.arg0(PROBE_ARGV0).stdin(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// Tries to, if that is what this process was started for.
pub fn run_if_namespace_probe() -> Option<ExitCode> {
    if std::env::args_os().next()? != PROBE_ARGV0 {
        return None;
    }
    let user = match nix::unistd::geteuid().is_root() {
        true => CloneFlags::empty(),
        false => CloneFlags::CLONE_NEWUSER,
    };
    let namespaces = user | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let nothing = None::<&str>;
    let tried = nix::sched::unshare(namespaces | CloneFlags::CLONE_NEWNET)
        .and_then(|()| nix::mount::mount(nothing, "/", nothing, private, nothing));
    Some(match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn become_program(
    rules: &OsStr,
    program: &OsStr,
    arguments: impl Iterator<Item = OsString>,
) -> String {
    let cannot = |error: &dyn std::fmt::Display| {
        format!("cannot start {} confined: {error}", program.display())
    };
    let mut confinement = match Confinement::from_json(rules) {
        Ok(confinement) => confinement,
        Err(error) => return cannot(&error),
    };
    let whole = std::fs::canonicalize(program).unwrap_or_else(|_| program.into());
    if !PROGRAMS.iter().any(|folder| whole.starts_with(folder)) {
        // Nobody knows where a program from elsewhere has its libraries.
        confinement.read.push("/".into());
    }
    if let Err(error) = confinement.enter() {
        return cannot(&format!("{:#}", anyhow::Error::from(error)));
    }
    let failure: io::Error = std::process::Command::new(program).args(arguments).exec();
    cannot(&failure)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_is_started_by_way_of_this_one() {
        let confinement = Confinement {
            read: vec!["/a b".into()],
            ..Confinement::default()
        };
        let command = confinement.command(Path::new("/usr/bin/qemu")).unwrap();
        let words: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(words[1], "/usr/bin/qemu");
        let told: Confinement = serde_json::from_slice(words[0].as_encoded_bytes()).unwrap();
        assert_eq!(told, confinement);
    }

    #[test]
    fn who_calls_nobody_still_listens_and_makes_mounts() {
        let there = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = there.local_addr().unwrap();
        let confined = std::thread::spawn(move || {
            let status = call_nobody().unwrap();
            let called = std::net::TcpStream::connect(address);
            let listens = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
            let is_root = nix::unistd::geteuid().is_root();
            let mounts = !is_root || {
                let nothing = None::<&str>;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                nix::sched::unshare(CloneFlags::CLONE_NEWNS)
                    .and_then(|()| nix::mount::mount(nothing, "/", nothing, private, nothing))
                    .is_ok()
            };
            (status, called.map_err(|it| it.kind()), listens, mounts)
        });
        let (status, called, listens, mounts) = confined.join().unwrap();
        if status != RulesetStatus::FullyEnforced {
            crate::output::warning("skipped in part: this kernel's landlock lacks rules");
            return;
        }
        assert_eq!(called.unwrap_err(), io::ErrorKind::PermissionDenied);
        assert!(listens && mounts, "listens: {listens}, mounts: {mounts}");
    }

    #[test]
    fn only_what_is_named_can_be_reached() {
        let folder = tempfile::tempdir().unwrap();
        let (open, shown, hidden) = ("open", "shown", "hidden");
        for name in [open, shown, hidden] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), name).unwrap();
        }
        let confinement = Confinement {
            read: vec![folder.path().join(shown)],
            write: vec![folder.path().join(open)],
            ..Confinement::default()
        };
        let root = folder.path().to_owned();
        // The rules hold for the thread that sets them, so for no other test.
        let confined = std::thread::spawn(move || {
            let status = confinement.enter().unwrap();
            let file = |name| root.join(name).join("file");
            let seen = [open, shown, hidden].map(|name| fs::read_to_string(file(name)).ok());
            let changed = [open, shown, hidden].map(|name| fs::write(file(name), "new").is_ok());
            let listens = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
            (status, seen, changed, listens)
        });
        let (status, seen, changed, listens) = confined.join().unwrap();
        if status != RulesetStatus::FullyEnforced {
            crate::output::warning("skipped in part: this kernel's landlock lacks rules");
            return;
        }
        assert_eq!(seen, [Some("open".into()), Some("shown".into()), None]);
        assert_eq!(changed, [true, false, false]);
        assert!(!listens, "a TCP port was opened");
    }
}
