//! From what the host asked for to a [`LaunchPlan`]: every check that can fail
//! is done here, before a container exists.

use std::path::{Path, PathBuf};

use isolazi_protocol::{
    BindMount, BindSource, ContainerId, ContainerSpec, ErrorCode, RestartPolicy, WireError,
};

use crate::container::checks::{absolute, invalid};
use crate::container::files::{ContainerDir, Record};
use crate::container::limits;
use crate::container::network;
use crate::container::options;
use crate::container::privileges;
use crate::container::propagation;
use crate::container::shares;
use crate::container::userns;
use crate::launch::plan::{BindPlan, CgroupPlan, EtcFile, LaunchPlan, RootfsPlan, SeccompProgram};
use crate::systemd;

/// Longest UTS host name (`HOST_NAME_MAX`, gethostname(2)).
const LONGEST_HOSTNAME: usize = 64;

/// Checks all of `spec` that does not depend on the machine.
pub fn validate(spec: &ContainerSpec) -> Result<(), WireError> {
    let process = &spec.process;
    if process.args.first().is_none_or(String::is_empty) {
        return Err(invalid(format!(
            "no command: image {} names none; give one after the image",
            spec.image.reference
        )));
    }
    let strings = process
        .args
        .iter()
        .chain(&process.env)
        .chain([&process.cwd, &process.user]);
    if strings.into_iter().any(|text| text.contains('\0')) {
        return Err(invalid(
            "command, environment, working directory and user cannot contain NUL".to_owned(),
        ));
    }
    if spec.layers.is_empty() {
        return Err(invalid(format!(
            "image {} has no layers",
            spec.image.reference
        )));
    }
    absolute("working directory", &process.cwd)?;
    if let Some(name) = &spec.hostname {
        hostname(name)?;
    }
    if let Some(signal) = &spec.stop_signal {
        self::signal(signal)?;
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(invalid(
            "a container that is removed when it ends cannot be restarted: leave out --rm or --restart"
                .to_owned(),
        ));
    }
    for mount in &spec.mounts {
        absolute("mount target", &mount.target)?;
        if let BindSource::Path(source) = &mount.source
            && !Path::new(source).is_absolute()
        {
            return Err(invalid(format!(
                "mount source '{source}' must be an absolute path"
            )));
        }
    }
    limits::validate(&spec.resources)?;
    privileges::validate(&spec.options.privileges)?;
    network::validate(spec)?;
    userns::validate(&spec.options.userns)?;
    options::validate(spec)
}

fn hostname(name: &str) -> Result<(), WireError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !name.is_empty() && name.len() <= LONGEST_HOSTNAME && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(invalid(format!(
        "'{name}' is not a host name: use letters, digits, '-' and '.', at most {LONGEST_HOSTNAME}"
    )))
}

/// The signal named by the image-spec's `StopSignal`: `SIGTERM`, `TERM` or `15`.
pub fn signal(text: &str) -> Result<i32, WireError> {
    let bad = || {
        invalid(format!(
            "'{text}' is not a signal: use a name such as SIGTERM or a number from 1 to 64"
        ))
    };
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number).ok_or_else(bad);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = realtime_signal(name) {
        return Ok(number);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| bad())?;
    Ok(signal as i32)
}

/// `RTMIN`, `RTMIN+n` and `RTMAX-n` by the numbers that glibc and musl give
/// (signal(7)): 34 is the first that a program may use.
fn realtime_signal(name: &str) -> Option<i32> {
    let offset = |digits: &str| digits.parse::<i32>().ok().filter(|n| (0..=30).contains(n));
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return match rest.strip_prefix('+') {
            Some(digits) => offset(digits).map(|n| 34 + n),
            None => rest.is_empty().then_some(34),
        };
    }
    let rest = name.strip_prefix("RTMAX")?;
    match rest.strip_prefix('-') {
        Some(digits) => offset(digits).map(|n| 64 - n),
        None => rest.is_empty().then_some(64),
    }
}

/// What a plan is made from, beside the record.
#[derive(Debug)]
pub struct PlanInputs {
    /// The unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Compiled system-call filters.
    pub seccomp: Vec<SeccompProgram>,
    /// The folders of the volumes, in the order of the spec's.
    pub volumes: Vec<PathBuf>,
    /// The container whose network it shares, where it does.
    pub peer: Option<ContainerId>,
}

/// The plan of the container in `dir`.
pub fn plan(
    record: &Record,
    dir: &ContainerDir,
    inputs: PlanInputs,
) -> Result<LaunchPlan, WireError> {
    let spec = &record.spec;
    let (granted, mut devices) = privileges::grant(&spec.options.privileges)?;
    let mut settings = options::settings(&spec.options, &inputs.volumes, dir, granted)?;
    settings.userns.clone_from(&record.userns);
    // No device file can be made in a user namespace.
    devices.needed &= record.userns.is_none();
    let mut binds: Vec<_> = spec.mounts.iter().map(bind).collect::<Result<_, _>>()?;
    binds.extend(options::volume_binds(&spec.options, &inputs.volumes));
    let etc = ["hosts", "hostname", "resolv.conf"].map(|name| EtcFile {
        source: dir.path().join("etc").join(name),
        name: name.to_owned(),
    });
    let (parent, slice) = group(spec.options.cgroup_parent.as_deref(), systemd::is_there());
    Ok(LaunchPlan {
        id: record.id.clone(),
        hostname: hostname_of(record).to_owned(),
        rootfs: RootfsPlan {
            lower: inputs.layers.into_iter().rev().collect(),
            upper: dir.path().join("upper"),
            work: dir.path().join("work"),
            mount_point: dir.path().join("rootfs"),
        },
        etc: etc.into(),
        binds,
        process: spec.process.clone(),
        seccomp: inputs.seccomp,
        cgroup: CgroupPlan {
            path: format!("{parent}/{}", record.id),
            slice,
            unscoped: None,
            pids_limit: spec.resources.pids_limit,
            limits: spec.resources.limits.clone(),
            devices,
        },
        network: network::plan(spec, inputs.peer),
        settings,
    })
}

/// Where a container's group is to be, and the slice that systemd is to put its scope
/// into, where it runs the host. Elsewhere a slice is a group like others.
fn group(parent: Option<&str>, has_systemd: bool) -> (String, Option<String>) {
    const OURS: &str = "isolazi";
    match parent {
        None => (OURS.to_owned(), None),
        Some(slice) if is_slice(slice) && has_systemd => (OURS.to_owned(), Some(slice.to_owned())),
        Some(slice) if is_slice(slice) => (format!("/{slice}"), None),
        Some(path) => (path.to_owned(), None),
    }
}

/// Whether it is a slice's name (systemd.slice(5)).
fn is_slice(parent: &str) -> bool {
    parent.ends_with(".slice") && !parent.contains('/')
}

/// The name the container calls itself by.
pub fn hostname_of(record: &Record) -> &str {
    record.spec.hostname.as_deref().unwrap_or(record.id.short())
}

fn bind(mount: &BindMount) -> Result<BindPlan, WireError> {
    let source = match &mount.source {
        BindSource::Path(path) => PathBuf::from(path),
        BindSource::Share { tag, subpath } => shares::locate(tag, subpath)?,
    };
    if !source.exists() {
        return Err(WireError::new(
            ErrorCode::NotFound,
            format!(
                "bind source {} does not exist; create it first",
                mount.host_path
            ),
        ));
    }
    propagation::check(mount, &source)?;
    Ok(BindPlan {
        source,
        target: PathBuf::from(&mount.target),
        read_only: mount.read_only,
        propagation: mount.propagation,
        recursion: mount.recursion,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use isolazi_protocol::{
        Digest, ImageIdentity, NetworkMode, ProcessSpec, Resources, SeccompProfile,
    };

    /// A container that passes every check.
    pub(crate) fn spec() -> ContainerSpec {
        ContainerSpec {
            name: None,
            image: ImageIdentity {
                reference: "test".to_owned(),
                id: Digest::from_bytes(&[1; 32]),
            },
            layers: vec![Digest::from_bytes(&[2; 32])],
            process: ProcessSpec {
                args: vec!["/bin/true".to_owned()],
                env: vec![],
                cwd: "/".to_owned(),
                user: String::new(),
                terminal: None,
                open_stdin: false,
            },
            hostname: None,
            mounts: vec![],
            stop_signal: None,
            auto_remove: false,
            network: NetworkMode::None,
            seccomp: SeccompProfile::Default,
            resources: Resources::default(),
            resolv_conf: String::new(),
            restart: RestartPolicy::No,
            options: isolazi_protocol::ContainerOptions::default(),
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGQUIT", 3),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for bad in [
            "",
            "0",
            "65",
            "-1",
            "SIGNOPE",
            "RTMIN+99",
            "RTMIN+-1",
            "99999999999",
        ] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    type Breakage = fn(&mut ContainerSpec);

    #[test]
    fn every_contradiction_is_refused() {
        validate(&spec()).unwrap();
        let breakages: [Breakage; 10] = [
            |spec| spec.process.args.clear(),
            |spec| spec.process.args[0].clear(),
            |spec| spec.process.env.push("A=\0".to_owned()),
            |spec| spec.process.cwd = "tmp".to_owned(),
            |spec| spec.process.cwd = "/proc/self/../..".to_owned(),
            |spec| spec.hostname = Some("a b".to_owned()),
            |spec| spec.layers.clear(),
            |spec| spec.stop_signal = Some("NOPE".to_owned()),
            |spec| {
                let source = BindSource::Path(".".to_owned());
                spec.mounts.push(BindMount {
                    source,
                    host_path: ".".to_owned(),
                    target: "/a".to_owned(),
                    read_only: false,
                    propagation: isolazi_protocol::Propagation::default(),
                    recursion: isolazi_protocol::BindRecursion::default(),
                });
            },
            |spec| {
                spec.auto_remove = true;
                spec.restart = RestartPolicy::Always;
            },
        ];
        for (index, breakage) in breakages.iter().enumerate() {
            let mut broken = spec();
            breakage(&mut broken);
            assert!(validate(&broken).is_err(), "breakage {index}");
        }
    }
}
