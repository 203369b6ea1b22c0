//! Control groups on a host that systemd runs. It owns the tree; whoever makes groups
//! needs a part that it has handed over (systemd's `CGROUP_DELEGATION.md`). So each
//! container gets a scope of its own, in which its shim makes what it takes:
//!
//! ```text
//!  <slice>/isolazi-<id>.scope        Delegate=yes, by StartTransientUnit
//!  ├── shim                          the container's shim
//!  └── isolazi/<id>                  the container
//! ```
//!
//! A scope goes by itself with its last process. Root's are made by the system's
//! systemd, those of others by their own, which gives limits to users at all.

mod bus;
mod message;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use crate::sys::idmap::is_nested;
use bus::Bus;
use message::Value;

/// There where systemd runs the host (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const CGROUPS: &str = "/sys/fs/cgroup";
/// What systemd may take to move a process.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Why systemd has given no scope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScopeError {
    /// Nobody to ask.
    #[error("systemd's bus cannot be reached at {0}")]
    Bus(String, #[source] io::Error),
    /// It does not want to.
    #[error("systemd makes no scope: {0}")]
    Refused(String),
    /// It has said that it would.
    #[error("systemd has not moved process {0} into its scope in time")]
    Late(Pid),
    /// The scope cannot be used.
    #[error("cannot use the scope {0}")]
    Group(PathBuf, #[source] io::Error),
}

/// Whether a process here can have a scope. In a guest there is no systemd, and with
/// cgroups v1 nothing is handed over.
pub(crate) fn is_there() -> bool {
    Path::new(BOOTED).is_dir()
        && statfs(CGROUPS).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Has the shim `pid` of a container moved into a scope of its own, with all groups
/// that it makes. `slice` is where the scope is to be, if not where systemd has them.
pub(crate) fn give_scope(pid: Pid, container: &str, slice: Option<&str>) -> Result<(), ScopeError> {
    let address = address();
    let failed = |error| ScopeError::Bus(address.clone(), error);
    let mut bus = Bus::connect(&address).map_err(failed)?;
    let name = format!("isolazi-{container}-{pid}.scope");
    let arguments = start_transient_unit(&name, pid, container, slice);
    match bus.call(&arguments).map_err(failed)? {
        Ok(()) => {}
        Err(reason) => return Err(ScopeError::Refused(reason)),
    }
    let scope = await_scope(pid, &name)?;
    enter_leaf(&scope, pid).map_err(|error| ScopeError::Group(scope.clone(), error))
}

/// Where a scope's controllers are, processes must not be (cgroups(7), "no internal
/// processes"), so the shim goes one down.
fn enter_leaf(scope: &Path, pid: Pid) -> io::Result<()> {
    let leaf = scope.join("shim");
    fs::create_dir(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), pid.to_string())
}

/// The call's answer comes before the deed.
fn await_scope(pid: Pid, name: &str) -> Result<PathBuf, ScopeError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if let Some(path) = scope_in(&groups, name) {
            return Ok(Path::new(CGROUPS).join(path));
        }
        if Instant::now() > deadline {
            return Err(ScopeError::Late(pid));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The path of the scope where a process's list of groups says that it is in it.
fn scope_in<'a>(groups: &'a str, name: &str) -> Option<&'a str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let last = path.rsplit('/').next()?;
    (last == name).then_some(path)
}

/// The bus of the system, or of the user who is root only here.
fn address() -> String {
    const SYSTEM: &str = "/run/dbus/system_bus_socket";
    if !is_nested() && nix::unistd::geteuid().is_root() {
        return SYSTEM.to_owned();
    }
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = session
        .split(';')
        .find_map(|it| it.strip_prefix("unix:path="));
    if let Some(path) = named.and_then(|it| it.split(',').next()) {
        return path.to_owned();
    }
    let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
    format!("{runtime}/bus")
}

/// `StartTransientUnit(in s name, in s mode, in a(sv) properties, in a(sa(sv)) aux)` of
/// org.freedesktop.systemd1(5).
fn start_transient_unit(name: &str, pid: Pid, container: &str, slice: Option<&str>) -> Vec<Value> {
    let property = |name: &str, value: Value| {
        Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value))])
    };
    let description = format!("isolazi container {container}");
    let pids = Value::Array("u", vec![Value::Number(pid.as_raw().unsigned_abs())]);
    let mut properties = vec![
        property("Description", Value::Text(description)),
        property("PIDs", pids),
        property("Delegate", Value::Switch(true)),
        // A failed one is not kept for somebody to look at.
        property("CollectMode", Value::text("inactive-or-failed")),
    ];
    if let Some(slice) = slice {
        properties.push(property("Slice", Value::text(slice)));
    }
    vec![
        Value::text(name),
        Value::text("fail"),
        Value::Array("(sv)", properties),
        Value::Array("(sa(sv))", Vec::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_its_scope_once_its_list_says_so() {
        let name = "isolazi-ab-7.scope";
        let path = "user.slice/user-1000.slice/user@1000.service/app.slice/isolazi-ab-7.scope";
        assert_eq!(scope_in(&format!("0::/{path}\n"), name), Some(path));
        let old = format!("4:memory:/x\n1:name=systemd:/{path}\n0::/{path}\n");
        assert_eq!(scope_in(&old, name), Some(path));
        for other in [
            "0::/session-1.scope\n",
            "0::/isolazi-ab-7.scope/shim\n",
            "",
            "0::/\n",
        ] {
            assert_eq!(scope_in(other, name), None, "{other}");
        }
    }

    #[test]
    fn a_scope_is_asked_for_with_delegation() {
        let asked = start_transient_unit("x.scope", Pid::from_raw(7), "ab", Some("batch.slice"));
        let text = format!("{asked:?}");
        for part in [
            "\"PIDs\"",
            "Number(7)",
            "\"Delegate\"",
            "Switch(true)",
            "batch.slice",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let signature: String = asked.iter().map(Value::signature).collect();
        assert_eq!(signature, "ssa(sv)a(sa(sv))");
    }
}
