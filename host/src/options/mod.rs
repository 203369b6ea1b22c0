//! From the texts of the command line to the options of a container. What is
//! not what it should be is an error that says what it should be.

mod cidfile;
mod health;
mod hosts;
mod limits;
mod lines;
mod network;
mod privileges;
mod resources;
mod security;
mod userns;

use std::path::Path;

use isolazi_protocol::{ContainerOptions, DeviceError, IdMappingError, Limit, UnknownLimit};

use crate::cli::SettingsArgs;

pub use cidfile::CidFile;
pub use health::health;
pub use hosts::resolv_conf;
pub(crate) use limits::size;
pub(crate) use lines::labels;
pub use lines::{env_file, environment_files};
pub(crate) use network::exposed_ports;
pub use network::{network, network_options};
pub use resources::{fixed_limits, limits};
pub use security::{seccomp_profile, security};

/// An option that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// `KEY=VALUE` without a key.
    #[error("'{text}' is not {what}: expected {form}")]
    Form {
        /// What was given.
        text: String,
        /// What it was to be.
        what: &'static str,
        /// How that looks.
        form: &'static str,
    },
    /// No name of a limit.
    #[error(transparent)]
    Limit(#[from] UnknownLimit),
    /// No name of a capability.
    #[error("'{name}' is not a capability: {hint}")]
    Capability {
        /// What was given.
        name: String,
        /// What it may have been meant to be.
        hint: String,
    },
    /// No rule for devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Limits the wrong way round.
    #[error("the soft limit of ulimit {0} is above its hard limit; use NAME=SOFT[:HARD]")]
    SoftAboveHard(Limit),
    /// A file of options.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line in a file of options.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// Which file.
        path: String,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Options that something else makes senseless.
    #[error("{what} cannot stand beside {beside}; leave one of them out")]
    Unfitting {
        /// Which options.
        what: &'static str,
        /// What makes them so.
        beside: String,
    },
    /// Options of a check that is not there.
    #[error(
        "there is no health check for the --health options: give one with --health-cmd, or use an image that has one"
    )]
    NoHealthCheck,
    /// Neither a profile of ours nor a file.
    #[error(
        "cannot read the seccomp profile {name}, which is none of default, minimal, strict and disabled"
    )]
    SeccompProfile {
        /// What was given.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No mapping of ids.
    #[error(transparent)]
    Mapping(#[from] IdMappingError),
    /// Options that say different things about a container's users.
    #[error("{0} and {1} contradict each other; leave one out")]
    Users(&'static str, &'static str),
    /// Only one can be meant.
    #[error("two seccomp profiles, {0} and {1}; give one")]
    TwoProfiles(String, String),
    /// The file for the id is there already.
    #[error("the file {0} exists; make sure that its container is gone, and delete it")]
    CidFileExists(String),
    /// The file for the id cannot be made.
    #[error("cannot write the container's id to {path}")]
    CidFile {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl OptionError {
    fn form(text: &str, what: &'static str, form: &'static str) -> Self {
        Self::Form {
            text: text.to_owned(),
            what,
            form,
        }
    }

    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }
}

/// All options but the mounts, without what the image adds.
pub fn resolve(args: &SettingsArgs) -> Result<ContainerOptions, OptionError> {
    let hosts = args.add_host.iter().map(|text| hosts::extra_host(text));
    let ulimits = args.ulimit.iter().map(|text| limits::ulimit(text));
    let sysctls = args.sysctl.iter().map(|text| lines::sysctl(text));
    Ok(ContainerOptions {
        labels: labels(&args.label_file, &args.label)?,
        annotations: labels(&[], &args.annotation)?,
        stop_timeout: args.stop_timeout,
        read_only: args.read_only,
        extra_hosts: hosts.collect::<Result<_, _>>()?,
        dns: hosts::dns(args)?,
        ulimits: limits::last_of_each(ulimits.collect::<Result<_, _>>()?),
        shm_size: args.shm_size.as_deref().map(limits::size).transpose()?,
        groups: args.group_add.clone(),
        init: args.init,
        sysctls: sysctls.collect::<Result<_, _>>()?,
        oom_score_adj: args.oom_score_adj,
        privileges: privileges::privileges(&args.privileges)?,
        userns: userns::userns(&args.userns)?,
        // As with Docker, an empty one is none.
        cgroup_parent: args
            .fixed_limits
            .cgroup_parent
            .clone()
            .filter(|it| !it.is_empty()),
        ..ContainerOptions::default()
    })
}

/// The limit of processes: no number above 0 is no limit, as with Docker.
pub fn pids_limit(asked: i64) -> u64 {
    match u64::try_from(asked) {
        Ok(0) | Err(_) => u64::MAX,
        Ok(limit) => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_of_processes_has_two_names() {
        assert_eq!(pids_limit(-1), u64::MAX);
        assert_eq!(pids_limit(0), u64::MAX);
        assert_eq!(pids_limit(5), 5);
    }

    #[test]
    fn options_end_up_in_their_places() {
        let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let args = SettingsArgs {
            label: texts(&["a=b", "empty", "a=c=d"]),
            add_host: texts(&["db:192.0.2.7"]),
            ulimit: texts(&["nofile=5", "core=0", "nofile=6:7"]),
            sysctl: texts(&["net.ipv4.ip_forward=1"]),
            shm_size: Some("1m".to_owned()),
            ..SettingsArgs::default()
        };
        let options = resolve(&args).unwrap();
        assert_eq!(options.labels["a"], "c=d");
        assert_eq!(options.labels["empty"], "");
        assert_eq!(options.extra_hosts[0].name, "db");
        assert_eq!(options.ulimits.len(), 2);
        assert_eq!(options.sysctls["net.ipv4.ip_forward"], "1");
        assert_eq!(options.shm_size, Some(1 << 20));
    }
}
