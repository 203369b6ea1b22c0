//! Keeps the distribution alive while there is something to do in it.

use std::fs::{self, TryLockError};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use isolazi_protocol::wsl::{Held, NEVER};

use super::{IN_USE, lock_file, prepare};
use crate::container::ContainerStore;
use crate::guest::DATA_ROOT;
use crate::guest::error::GuestError;

const LOCK: &str = "/run/isolazi/hold";
/// There since somebody has first held.
const BOOTED: &str = "/run/isolazi/booted";
/// Between two looks at what goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Stays until nothing has gone on for as long as `idle` says, in seconds.
pub(super) fn run(idle: Option<&str>) -> Result<(), GuestError> {
    let idle = parse(idle).ok_or_else(|| {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        GuestError::setup("understand", "how long to hold")(error)
    })?;
    prepare::all()?;
    let lock = lock_file(LOCK)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return say(Held::ByAnother),
        Err(TryLockError::Error(error)) => return Err(GuestError::setup("lock", LOCK)(error)),
    }
    let again = fs::exists(BOOTED).unwrap_or(false);
    fs::write(BOOTED, []).map_err(GuestError::setup("write", BOOTED))?;
    say(if again { Held::Again } else { Held::Booted })?;
    match idle {
        None => loop {
            std::thread::sleep(Duration::MAX);
        },
        Some(idle) => until_idle(idle),
    }
}

/// `None` for ever.
#[expect(clippy::option_option, reason = "no time is not the same as no end")]
fn parse(idle: Option<&str>) -> Option<Option<Duration>> {
    match idle? {
        NEVER => Some(None),
        seconds => Some(Some(Duration::from_secs(seconds.parse().ok()?))),
    }
}

/// Says it, and leaves standard output.
fn say(held: Held) -> Result<(), GuestError> {
    let say = || {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", held.line())?;
        stdout.flush()?;
        let nowhere = fs::File::options().write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(nowhere)?;
        Ok(())
    };
    say().map_err(GuestError::setup::<io::Error>(
        "write to",
        "standard output",
    ))
}

fn until_idle(idle: Duration) -> Result<(), GuestError> {
    let containers = ContainerStore::open(format!("{DATA_ROOT}/containers").into());
    let containers = containers.map_err(|error| GuestError::Engine(error.into()))?;
    let in_use = lock_file(IN_USE)?;
    let mut since = Instant::now();
    while since.elapsed() < idle {
        std::thread::sleep(INTERVAL);
        let is_used = in_use.try_lock().is_err();
        let _ = in_use.unlock();
        if is_used || !containers.list(false).is_empty() {
            since = Instant::now();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_said_in_seconds() {
        assert_eq!(parse(Some("never")), Some(None));
        assert_eq!(parse(Some("90")), Some(Some(Duration::from_secs(90))));
        for bad in [None, Some(""), Some("-1"), Some("1m")] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
