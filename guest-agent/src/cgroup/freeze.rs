//! Suspending a cgroup's processes: `cgroup.freeze` of v2, the freezer of v1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::place;
use crate::sys::idmap::is_nested;

/// How long processes may take to stand still.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Where a cgroup is frozen.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Freezer {
    /// That of the group named `path`.
    fn of(path: &str) -> io::Result<Self> {
        let hierarchies = place::find(path);
        let v1 = hierarchies.iter().find(|it| it.controls("freezer"));
        if let Some(legacy) = v1 {
            return Ok(Self::V1(legacy.folder.clone()));
        }
        let unified = hierarchies.into_iter().find(super::Hierarchy::is_unified);
        let folder = unified.map(|it| it.folder);
        let folder = folder.filter(|it| it.join("cgroup.freeze").exists());
        folder.map(Self::V2).ok_or_else(|| {
            let reason = match is_nested() {
                true => "it has no cgroup, as none is yours to make any in; start it in one with: systemd-run --user --scope isolazi",
                false => "this machine has no cgroup freezer",
            };
            io::Error::new(io::ErrorKind::Unsupported, reason)
        })
    }

    fn set(&self, frozen: bool) -> io::Result<()> {
        match self {
            Self::V1(folder) => {
                let state = if frozen { "FROZEN" } else { "THAWED" };
                fs::write(folder.join("freezer.state"), state)
            }
            Self::V2(folder) => {
                let state = if frozen { "1" } else { "0" };
                fs::write(folder.join("cgroup.freeze"), state)
            }
        }
    }

    fn is(&self, frozen: bool) -> io::Result<bool> {
        match self {
            Self::V1(folder) => {
                let state = if frozen { "FROZEN" } else { "THAWED" };
                Ok(read(&folder.join("freezer.state"))?.trim() == state)
            }
            Self::V2(folder) => {
                let state = if frozen { "frozen 1" } else { "frozen 0" };
                let events = read(&folder.join("cgroup.events"))?;
                Ok(events.lines().any(|line| line == state))
            }
        }
    }
}

fn read(file: &Path) -> io::Result<String> {
    fs::read_to_string(file)
}

/// Suspends every process of the group named `path`, or lets them go on, and
/// waits until that is so. After a failure they go on.
pub fn freeze(path: &str, frozen: bool) -> io::Result<()> {
    let freezer = Freezer::of(path)?;
    freezer.set(frozen)?;
    let deadline = Instant::now() + PATIENCE;
    while !freezer.is(frozen)? {
        if Instant::now() > deadline {
            freezer.set(false)?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        // v1 has to be asked again where processes forked meanwhile.
        freezer.set(frozen)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
