//! The way in: from the command's world to the namespaces, which are made where
//! there are none.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use isolazi_protocol::{ErrorCode, WireError};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getpid, setsid};

use super::lock::lock;
use super::record::{Namespaces, Process, Record, boot};
use super::{blocked, broker, engine, folder, keeper, make, network};
use crate::sys::loopback;

/// How it is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-rootless";

/// Enters the namespaces and becomes the engine of the data root that is the first
/// argument. What goes wrong is told on standard output.
pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(root) = words.next().map(PathBuf::from) else {
        return ExitCode::FAILURE;
    };
    // What the terminal sends to the command's group is not meant for the engine.
    let _ = setsid();
    let error = match enter(&root) {
        Ok(notes) => become_engine(&root, notes),
        Err(error) => error,
    };
    engine::report(&Err(error));
    ExitCode::FAILURE
}

/// Returns what the user has to be told.
fn enter(root: &Path) -> Result<Vec<String>, WireError> {
    let lock = lock(root).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => WireError::new(
            ErrorCode::Permission,
            format!(
                "{} is not yours to keep containers in; name another folder with --root",
                root.display()
            ),
        ),
        _ => failed("lock", root, &error),
    })?;
    let last = Record::read(root);
    let entered = match last.as_ref().and_then(find) {
        Some(found) => join(root, &found).map(|()| Vec::new()),
        None => create(root, last.as_ref()),
    };
    drop(lock);
    entered
}

/// The namespaces that the record tells of, if they are still there: while a
/// container runs they are, whatever has become of their keeper.
fn find(record: &Record) -> Option<(Record, Namespaces)> {
    if record.boot != boot() {
        return None;
    }
    let keeper = record.keeper;
    let of = |holder| {
        let found = Namespaces::of(holder).ok()?;
        (found.identity == record.namespaces).then(|| (record.clone(), found))
    };
    let kept = keeper.is_alive().then(|| of(keeper.pid())).flatten();
    kept.or_else(|| of(record.namespaces.somebody(&[getpid()])?))
}

fn join(root: &Path, (record, namespaces): &(Record, Namespaces)) -> Result<(), WireError> {
    let broker = match record.broker.filter(|it| it.is_alive()) {
        Some(broker) => broker,
        None => publish(root, namespaces)?,
    };
    go_in(namespaces).map_err(|errno| powerless(errno, root))?;
    let keeper = match record.keeper.is_alive() {
        true => record.keeper,
        false => keep(root)?,
    };
    let mended = Record {
        broker: Some(broker),
        keeper,
        ..record.clone()
    };
    if mended == *record {
        return Ok(());
    }
    let written = mended.write(root);
    written.map_err(|error| failed("record", root, &error))
}

fn create(root: &Path, last: Option<&Record>) -> Result<Vec<String>, WireError> {
    let of_this_boot = last.filter(|it| it.boot == boot());
    if let Some(last) = of_this_boot {
        keeper::end_network(last);
    }
    let made = make::make()?;
    let network = network::connect(root, made.holder());
    let broker = publish(root, &made.namespaces)?;
    go_in(&made.namespaces)
        .and_then(|()| loopback::bring_up())
        .map_err(|errno| powerless(errno, root))?;
    let mut notes = made.notes.clone();
    notes.extend(network.note);
    let record = Record {
        boot: boot(),
        keeper: keep(root)?,
        network: network.process,
        broker: Some(broker),
        namespaces: made.namespaces.identity,
        notes: notes.clone(),
    };
    let written = record.write(root);
    written.map_err(|error| failed("record", root, &error))?;
    // What the user has read since the machine's start is no news.
    notes.retain(|note| of_this_boot.is_none_or(|last| !last.notes.contains(note)));
    Ok(notes)
}

fn keep(root: &Path) -> Result<Process, WireError> {
    let started = keeper::start(root);
    let started = started.map_err(|error| failed("keep", root, &error))?;
    Process::of(started).ok_or_else(|| failed("keep", root, &io::ErrorKind::NotFound.into()))
}

fn publish(root: &Path, namespaces: &Namespaces) -> Result<Process, WireError> {
    let started = broker::start(root, namespaces.identity);
    started.map_err(|error| failed("bind ports for", root, &error))
}

/// The mounts are a copy of the host's, as they are now: what is mounted there later
/// shows up here as well, as far as the host shares it, and never the reverse.
fn go_in(namespaces: &Namespaces) -> Result<(), Errno> {
    setns(&namespaces.user, CloneFlags::CLONE_NEWUSER)?;
    setns(&namespaces.network, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS)
}

/// AppArmor lets some make a user namespace and then have no power in it.
fn powerless(errno: Errno, root: &Path) -> WireError {
    match errno {
        Errno::EPERM | Errno::EACCES => blocked::explain(errno),
        _ => failed("enter", root, &errno.into()),
    }
}

/// Executes this program again, by its path: its own mount is the one of before.
fn become_engine(root: &Path, notes: Vec<String>) -> WireError {
    let error = std::env::current_exe()
        .map(|program| {
            Command::new(program)
                .arg0(engine::ARGV0)
                .arg(root)
                .args(notes)
                .exec()
        })
        .unwrap_or_else(|error| error);
    WireError::new(
        ErrorCode::Internal,
        format!("cannot execute isolazi anew, in its user namespace: {error}"),
    )
}

fn failed(action: &str, root: &Path, error: &io::Error) -> WireError {
    let folder = folder(root);
    WireError::new(
        ErrorCode::Internal,
        format!(
            "cannot {action} the user namespace of {}: {error}; use sudo, or --vm",
            folder.display()
        ),
    )
}
