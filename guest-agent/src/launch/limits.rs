//! Limits that belong to a process and not to its cgroup. What the machine
//! does not allow is said, and does not keep the container from starting.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

use isolazi_protocol::{Limit, Ulimit};

use super::report::Reporter;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Lets the calling process have as many descriptors as it may, or as many as `most` if
/// it may decide that. Returns what it was allowed before.
pub(crate) fn raise_descriptors(most: Option<u64>) -> Option<Ulimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let raised = |to| setrlimit(Resource::RLIMIT_NOFILE, to, to);
    let most = most.filter(|most| *most > hard);
    if most.is_none_or(|most| raised(most).is_err()) {
        // Where not even that works it does with less.
        let _ = raised(hard);
    }
    let asked = |value| (value != RLIM_INFINITY).then_some(value);
    Some(Ulimit {
        limit: Limit::Nofile,
        soft: asked(soft),
        hard: asked(hard),
    })
}

/// Sets the resource limits of the calling process.
pub(super) fn set_ulimits(ulimits: &[Ulimit], reporter: &Reporter) {
    for ulimit in ulimits {
        let resource = resource(ulimit.limit);
        let done = setrlimit(resource, value(ulimit.soft), value(ulimit.hard));
        if let Err(errno) = done {
            reporter.warning(&complaint(ulimit, resource, errno));
        }
    }
}

fn complaint(ulimit: &Ulimit, resource: Resource, errno: Errno) -> String {
    let stays = getrlimit(resource).map_or_else(
        |_| String::new(),
        |(soft, hard)| format!("; it stays at {}:{}", shown(soft), shown(hard)),
    );
    let asked = (value(ulimit.soft), value(ulimit.hard));
    format!(
        "the ulimit {}={}:{} does not apply: {}{stays}",
        ulimit.limit,
        shown(asked.0),
        shown(asked.1),
        errno.desc(),
    )
}

fn value(limit: Option<u64>) -> rlim_t {
    limit.unwrap_or(RLIM_INFINITY)
}

fn shown(value: rlim_t) -> String {
    match value {
        RLIM_INFINITY => "unlimited".to_owned(),
        number => number.to_string(),
    }
}

fn resource(limit: Limit) -> Resource {
    match limit {
        Limit::As => Resource::RLIMIT_AS,
        Limit::Core => Resource::RLIMIT_CORE,
        Limit::Cpu => Resource::RLIMIT_CPU,
        Limit::Data => Resource::RLIMIT_DATA,
        Limit::Fsize => Resource::RLIMIT_FSIZE,
        Limit::Locks => Resource::RLIMIT_LOCKS,
        Limit::Memlock => Resource::RLIMIT_MEMLOCK,
        Limit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Limit::Nice => Resource::RLIMIT_NICE,
        Limit::Nofile => Resource::RLIMIT_NOFILE,
        Limit::Nproc => Resource::RLIMIT_NPROC,
        Limit::Rss => Resource::RLIMIT_RSS,
        Limit::Rtprio => Resource::RLIMIT_RTPRIO,
        Limit::Rttime => Resource::RLIMIT_RTTIME,
        Limit::Sigpending => Resource::RLIMIT_SIGPENDING,
        Limit::Stack => Resource::RLIMIT_STACK,
    }
}

/// Sets how soon the calling process is killed when memory is short. Must be
/// called while `/proc` still is the machine's.
///
/// No container is spared more than its launcher, whose work it would be to
/// clean up after it. And a launcher that the kernel spares does not pass that
/// on: where nothing is asked for, the value is 0 at least.
pub(super) fn set_oom_score(asked: Option<i32>, reporter: &Reporter) {
    let own = std::fs::read_to_string(OOM_SCORE_ADJ).unwrap_or_default();
    let own = own.trim();
    let least = own.parse().unwrap_or(-1000);
    let wanted = match asked {
        Some(value) if value < least => {
            reporter.warning(&format!(
                "oom_score_adj {value} would spare the container more than isolazi itself; it is {least}"
            ));
            least
        }
        Some(value) => value,
        None if own.starts_with('-') => 0,
        None => return,
    };
    if let Err(error) = std::fs::write(OOM_SCORE_ADJ, wanted.to_string()) {
        reporter.warning(&format!(
            "cannot set oom_score_adj to {wanted}: {error}; it stays at {own}"
        ));
    }
}
