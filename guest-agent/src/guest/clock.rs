//! The guest's clock follows the host's.
//!
//! A machine that slept or was paused wakes with a clock that is behind, and
//! then TLS certificates and build tools fail in odd ways. Every conversation
//! tells the host's time, so the guest is right whenever it is used.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

/// Less than this is left alone: the message itself was under way.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Sets the clock to `unix_nanos`, nanoseconds since the Unix epoch, where it
/// is off by more than a second. Tells whether it did.
///
/// # Errors
/// `EPERM` where this process may not set the clock.
pub fn adopt(unix_nanos: u64) -> Result<bool, nix::Error> {
    let host = Duration::from_nanos(unix_nanos);
    let own = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if !is_off(own, host) {
        return Ok(false);
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(host))?;
    Ok(true)
}

fn is_off(own: Duration, host: Duration) -> bool {
    own.abs_diff(host) > TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_a_second_counts() {
        let now = Duration::from_secs(1_700_000_000);
        assert!(!is_off(now, now + Duration::from_millis(900)));
        assert!(!is_off(now + Duration::from_millis(900), now));
        assert!(is_off(now, now + Duration::from_secs(2)));
        assert!(is_off(now + Duration::from_secs(2), now));
    }
}
