//! What may be done to a container in which state, and what follows its end.
//! Nothing here touches a container: these are only decisions.
//!
//! ```text
//!              ┌────────────── start ──────────────┐
//!              ▼                                   │
//!  Created ─► Running ◄─ unpause ─ Paused        Exited ─► removed
//!              │   └──── pause ──────►             ▲
//!              ├── end, policy says no, or stop ───┤
//!              └── end, policy says yes ─► Restarting ── stop
//!                        ▲                    │
//!                        └── after a pause ───┘
//! ```

use std::time::Duration;

use isolazi_protocol::{ContainerState, RestartPolicy};

/// What somebody wants to do to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start its first process.
    Start,
    /// Have it end.
    Stop,
    /// Send it a signal.
    Kill,
    /// Suspend it.
    Pause,
    /// Let it go on.
    Unpause,
    /// Start a further process.
    Exec,
    /// Stay with its first process.
    Attach,
    /// Take it away.
    Remove,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It can be done.
    Do,
    /// There is nothing to do any more.
    AlreadySo,
}

/// Why it cannot be done, and what would help, as the end of a sentence about
/// the container.
pub type Refusal = &'static str;

const NOT_RUNNING: Refusal = "is not running; start it with: isolazi start";
const PAUSED: Refusal = "is paused; let it go on with: isolazi unpause";
const RUNNING: Refusal = "is running; stop it first or use rm -f";
const RESTARTING: Refusal = "is restarting; wait until it runs, or stop it";

/// Whether `action` is possible in `state`.
///
/// # Errors
/// The reason why not.
pub fn judge(action: Action, state: &ContainerState) -> Result<Verdict, Refusal> {
    use ContainerState::{Created, Exited, Paused, Restarting, Running};
    match (action, state) {
        (Action::Start, Created | Exited { .. })
        | (Action::Stop, Running { .. } | Paused { .. } | Restarting { .. })
        | (Action::Kill, Running { .. } | Paused { .. })
        | (Action::Pause, Running { .. })
        | (Action::Unpause, Paused { .. })
        | (Action::Exec | Action::Attach, Running { .. })
        | (Action::Remove, Created | Exited { .. }) => Ok(Verdict::Do),

        (Action::Start, Running { .. } | Restarting { .. })
        | (Action::Stop, Created | Exited { .. }) => Ok(Verdict::AlreadySo),

        (Action::Pause, Paused { .. }) => Err("is already paused"),
        (Action::Unpause, Running { .. }) => Err("is not paused"),
        (Action::Start | Action::Exec | Action::Attach, Paused { .. }) => Err(PAUSED),
        (Action::Remove, Running { .. } | Paused { .. } | Restarting { .. }) => Err(RUNNING),
        (_, Restarting { .. }) => Err(RESTARTING),
        (_, Created | Exited { .. }) => Err(NOT_RUNNING),
    }
}

/// A container that has run this long counts as having been well.
const WELL: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a first process ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Its status.
    pub code: i32,
    /// How long it ran.
    pub lived: Duration,
    /// A user had it stopped.
    pub stopped: bool,
}

/// How long to wait before the container is started again, after `restarts`
/// restarts in a row; `None` where it stays ended.
pub fn restart_after(policy: RestartPolicy, end: End, restarts: u32) -> Option<Duration> {
    let wanted = match policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure { most } => end.code != 0 && (most == 0 || restarts < most),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    };
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(restarts.min(16)));
    (wanted && !end.stopped).then(|| doubled.min(LONGEST_PAUSE))
}

/// The number of restarts in a row, after one more.
pub fn counted(restarts: u32, lived: Duration) -> u32 {
    match lived >= WELL {
        true => 0,
        false => restarts.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> [ContainerState; 5] {
        [
            ContainerState::Created,
            ContainerState::Running {
                pid: 1,
                started_at: 2,
            },
            ContainerState::Paused {
                pid: 1,
                started_at: 2,
            },
            ContainerState::Restarting {
                code: 1,
                restarts: 0,
                finished_at: 3,
            },
            ContainerState::Exited {
                code: 0,
                started_at: Some(2),
                finished_at: 3,
                error: None,
                stopped: false,
                oom_killed: false,
            },
        ]
    }

    /// `+` it is done, `=` it is so already, `-` it is refused.
    #[test]
    fn what_each_state_allows() {
        for (action, expected) in [
            //                created running paused restarting exited
            (Action::Start, "+=-=+"),
            (Action::Stop, "=+++="),
            (Action::Kill, "-++--"),
            (Action::Pause, "-+---"),
            (Action::Unpause, "--+--"),
            (Action::Exec, "-+---"),
            (Action::Attach, "-+---"),
            (Action::Remove, "+---+"),
        ] {
            let found: String = states()
                .iter()
                .map(|state| match judge(action, state) {
                    Ok(Verdict::Do) => '+',
                    Ok(Verdict::AlreadySo) => '=',
                    Err(_) => '-',
                })
                .collect();
            assert_eq!(found, expected, "{action:?}");
        }
    }

    fn end(code: i32) -> End {
        End {
            code,
            lived: Duration::from_secs(1),
            stopped: false,
        }
    }

    #[test]
    fn a_policy_decides_over_the_restart() {
        let on_failure = RestartPolicy::OnFailure { most: 2 };
        for (policy, code, restarts, again) in [
            (RestartPolicy::No, 1, 0, false),
            (on_failure, 0, 0, false),
            (on_failure, 1, 0, true),
            (on_failure, 1, 2, false),
            (RestartPolicy::OnFailure { most: 0 }, 1, 99, true),
            (RestartPolicy::Always, 0, 99, true),
            (RestartPolicy::UnlessStopped, 0, 0, true),
        ] {
            let pause = restart_after(policy, end(code), restarts);
            assert_eq!(pause.is_some(), again, "{policy:?} {code} {restarts}");
        }
        let stopped = End {
            stopped: true,
            ..end(137)
        };
        assert_eq!(restart_after(RestartPolicy::Always, stopped, 0), None);
    }

    #[test]
    fn pauses_grow_until_the_container_has_been_well() {
        let pause = |restarts| restart_after(RestartPolicy::Always, end(1), restarts);
        assert_eq!(pause(0), Some(Duration::from_millis(100)));
        assert_eq!(pause(3), Some(Duration::from_millis(800)));
        assert_eq!(pause(u32::MAX), Some(LONGEST_PAUSE));
        assert_eq!(counted(5, Duration::from_secs(1)), 6);
        assert_eq!(counted(5, WELL), 0);
    }
}
