//! The options of a container: what may be asked for, and what it comes to in
//! a plan.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use isolazi_protocol::{
    BindRecursion, ContainerOptions, ContainerSpec, ErrorCode, ExtraHost, Propagation, TmpfsMount,
    Ulimit, VolumeMount, WireError,
};

use crate::container::checks::{absolute, invalid};
use crate::container::files::ContainerDir;
use crate::container::health;
use crate::container::security;
use crate::launch;
use crate::launch::plan::{BindPlan, FillPlan, Settings, TmpfsPlan};
use crate::volume::VolumeStore;

/// Range of `oom_score_adj` (proc_pid_oom_score_adj(5)).
const OOM_SCORES: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Kernel parameters that belong to an IPC or UTS namespace; those that start
/// with `net.` or `fs.mqueue.` belong to one, too (namespaces(7)).
const NAMESPACED: [&str; 9] = [
    "kernel.domainname",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Checks all options.
pub(super) fn validate(spec: &ContainerSpec) -> Result<(), WireError> {
    let options = &spec.options;
    options.ulimits.iter().try_for_each(ulimit)?;
    options.extra_hosts.iter().try_for_each(extra_host)?;
    options.groups.iter().try_for_each(|name| group(name))?;
    options
        .sysctls
        .iter()
        .try_for_each(|(name, value)| sysctl(name, value).map(drop))?;
    options
        .volumes
        .iter()
        .try_for_each(|mount| absolute("volume target", &mount.target))?;
    options
        .tmpfs
        .iter()
        .try_for_each(|it| tmpfs(it).map(drop))?;
    options.health.iter().try_for_each(health::validate)?;
    options
        .cgroup_parent
        .iter()
        .try_for_each(|it| group_parent(it))?;
    if options.shm_size == Some(0) {
        return Err(invalid("the size of /dev/shm must be above 0".to_owned()));
    }
    if let Some(score) = options.oom_score_adj
        && !OOM_SCORES.contains(&score)
    {
        return Err(invalid(format!(
            "'{score}' is not an oom_score_adj: use -1000 to 1000"
        )));
    }
    if options.init && !launch::has_init() {
        return Err(WireError::new(
            ErrorCode::Unsupported,
            "this build of isolazi has no init program; leave --init out",
        ));
    }
    security::validate(spec)?;
    targets(spec)
}

/// No two mounts may want the same place, and none the root.
fn targets(spec: &ContainerSpec) -> Result<(), WireError> {
    let options = &spec.options;
    let binds = spec.mounts.iter().map(|it| &it.target);
    let volumes = options.volumes.iter().map(|it| &it.target);
    let tmpfs = options.tmpfs.iter().map(|it| &it.target);
    let mut seen = HashSet::new();
    for target in binds.chain(volumes).chain(tmpfs) {
        if Path::new(target).file_name().is_none() {
            return Err(invalid(format!(
                "'{target}' is the container's root, where nothing can be mounted; name a folder in it"
            )));
        }
        // Compared by its components, so that /a/ is /a.
        if !seen.insert(Path::new(target)) {
            return Err(invalid(format!(
                "duplicate mount point: {target}; mount one thing there"
            )));
        }
    }
    Ok(())
}

fn ulimit(ulimit: &Ulimit) -> Result<(), WireError> {
    let above = match (ulimit.soft, ulimit.hard) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(soft), Some(hard)) => soft > hard,
    };
    match above {
        false => Ok(()),
        true => Err(invalid(format!(
            "the soft limit of ulimit {} is above its hard limit; use NAME=SOFT[:HARD]",
            ulimit.limit
        ))),
    }
}

fn extra_host(host: &ExtraHost) -> Result<(), WireError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !host.name.is_empty() && host.name.len() <= 253 && host.name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(invalid(format!(
            "'{}' is not a host name: use letters, digits, '-', '_' and '.'",
            host.name
        ))),
    }
}

fn group(name: &str) -> Result<(), WireError> {
    match name.is_empty() || name.contains([':', '\n', '\0']) {
        false => Ok(()),
        true => Err(invalid(format!("'{name}' is not the name of a group"))),
    }
}

fn group_parent(path: &str) -> Result<(), WireError> {
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    let is_plain = !path.contains(['\0', '\n']);
    match is_plain && path.len() <= 1024 && parts.into_iter().all(is_part) {
        true => Ok(()),
        false => Err(invalid(format!(
            "--cgroup-parent '{path}' is not the path of a control group, such as /batch"
        ))),
    }
}

/// The path of a kernel parameter below `/proc/sys`. A name may contain
/// slashes itself, where it has dots of its own (`net.ipv4.conf.eth0/1.x`).
fn sysctl(name: &str, value: &str) -> Result<String, WireError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let is_part = |part: &str| !matches!(part, "" | "/" | "//");
    let is_name = name.bytes().all(allowed) && name.split('.').all(is_part);
    let belongs =
        NAMESPACED.contains(&name) || ["net.", "fs.mqueue."].iter().any(|it| name.starts_with(it));
    if !is_name || !belongs {
        return Err(invalid(format!(
            "the kernel parameter '{name}' is not a container's own: use one of net.*, fs.mqueue.*, {}",
            NAMESPACED.join(", ")
        )));
    }
    if value.contains('\0') {
        return Err(invalid(format!(
            "the kernel parameter {name} cannot be set to a value with NUL"
        )));
    }
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    Ok(name.chars().map(swap).collect())
}

/// Docker's defaults and options.
fn tmpfs(mount: &TmpfsMount) -> Result<TmpfsPlan, WireError> {
    absolute("tmpfs target", &mount.target)?;
    let mut plan = TmpfsPlan {
        target: PathBuf::from(&mount.target),
        ..TmpfsPlan::default()
    };
    for option in &mount.options {
        match option.as_str() {
            "ro" => plan.read_only = true,
            "rw" => plan.read_only = false,
            "exec" => plan.exec = true,
            "noexec" => plan.exec = false,
            "suid" => plan.suid = true,
            "nosuid" => plan.suid = false,
            "dev" => plan.dev = true,
            "nodev" => plan.dev = false,
            other => plan.options.push(file_system_option(mount, other)?),
        }
    }
    Ok(plan)
}

fn file_system_option(mount: &TmpfsMount, option: &str) -> Result<(String, String), WireError> {
    let bad = || {
        invalid(format!(
            "'{option}' is not an option of the tmpfs at {}: use size, mode, uid, gid, nr_inodes or nr_blocks with a value, or ro, rw, exec, noexec, suid, nosuid, dev, nodev",
            mount.target
        ))
    };
    let (key, value) = option.split_once('=').ok_or_else(bad)?;
    let digits = value.trim_end_matches(|it: char| "kKmMgG%".contains(it));
    let suffix = value.len() - digits.len();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_good = match key {
        "size" | "nr_inodes" | "nr_blocks" => is_number && suffix <= 1,
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => is_number && suffix == 0,
        _ => false,
    };
    match is_good {
        true => Ok((key.to_owned(), value.to_owned())),
        false => Err(bad()),
    }
}

/// What the options come to. `volumes` are the folders of their volumes, and
/// `granted` are the settings that privileges come to.
pub(super) fn settings(
    options: &ContainerOptions,
    volumes: &[PathBuf],
    dir: &ContainerDir,
    granted: Settings,
) -> Result<Settings, WireError> {
    let sysctls = options.sysctls.iter();
    let fills = options.volumes.iter().zip(volumes);
    let fill = |(mount, folder): (&VolumeMount, &PathBuf)| FillPlan {
        volume: folder.clone(),
        source: PathBuf::from(&mount.target),
        done: dir.path().join("volumes-filled"),
    };
    Ok(Settings {
        read_only: options.read_only,
        ulimits: options.ulimits.clone(),
        shm_size: options.shm_size,
        groups: options.groups.clone(),
        init: options.init,
        sysctls: sysctls
            .map(|(name, value)| Ok((sysctl(name, value)?, value.clone())))
            .collect::<Result<_, WireError>>()?,
        oom_score_adj: options.oom_score_adj,
        tmpfs: options.tmpfs.iter().map(tmpfs).collect::<Result<_, _>>()?,
        fills: fills
            .filter(|(mount, _)| !mount.no_copy)
            .map(fill)
            .collect(),
        may_gain_privileges: granted.privileged
            || options.security.no_new_privileges == Some(false),
        system_paths_unconfined: granted.privileged || options.security.system_paths_unconfined,
        label: security::label(&options.security)?,
        ..granted
    })
}

/// The volumes as what is to be mounted.
pub(super) fn volume_binds<'a>(
    options: &'a ContainerOptions,
    volumes: &'a [PathBuf],
) -> impl Iterator<Item = BindPlan> + 'a {
    let mounts = options.volumes.iter().zip(volumes);
    mounts.map(|(mount, folder)| BindPlan {
        source: VolumeStore::data(folder),
        target: PathBuf::from(&mount.target),
        read_only: mount.read_only,
        propagation: Propagation::default(),
        recursion: BindRecursion::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::plan::tests::spec;
    use isolazi_protocol::{BindMount, BindSource, Limit};

    type Breakage = fn(&mut ContainerSpec);

    fn volume(target: &str) -> VolumeMount {
        VolumeMount {
            name: "data".to_owned(),
            target: target.to_owned(),
            ..VolumeMount::default()
        }
    }

    fn tmpfs_at(target: &str, options: &[&str]) -> TmpfsMount {
        TmpfsMount {
            target: target.to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn every_option_that_makes_no_sense_is_refused() {
        let breakages: [Breakage; 17] = [
            |spec| spec.options.shm_size = Some(0),
            |spec| spec.options.cgroup_parent = Some("/a/../..".to_owned()),
            |spec| spec.options.cgroup_parent = Some(String::new()),
            |spec| spec.options.oom_score_adj = Some(1001),
            |spec| spec.options.groups.push("a:b".to_owned()),
            |spec| {
                spec.options.ulimits.push(Ulimit {
                    limit: Limit::Nofile,
                    soft: Some(2),
                    hard: Some(1),
                });
            },
            |spec| {
                spec.options.ulimits.push(Ulimit {
                    limit: Limit::Nofile,
                    soft: None,
                    hard: Some(1),
                });
            },
            |spec| {
                spec.options.extra_hosts.push(ExtraHost {
                    name: "a\nb".to_owned(),
                    address: Some([127, 0, 0, 1].into()),
                });
            },
            |spec| {
                let pair = ("kernel.panic".to_owned(), "1".to_owned());
                spec.options.sysctls.extend([pair]);
            },
            |spec| spec.options.volumes.push(volume("relative")),
            |spec| spec.options.volumes.push(volume("/a/../b")),
            |spec| spec.options.volumes.push(volume("/a\0b")),
            |spec| spec.options.volumes.push(volume("/")),
            |spec| spec.options.tmpfs.push(tmpfs_at("//.", &[])),
            |spec| spec.options.volumes.extend([volume("/v"), volume("/v/")]),
            |spec| {
                spec.options.volumes.push(volume("/v"));
                spec.options.tmpfs.push(tmpfs_at("//v", &[]));
            },
            |spec| {
                spec.options.tmpfs.push(tmpfs_at("/v", &[]));
                spec.mounts.push(BindMount {
                    source: BindSource::Path("/".to_owned()),
                    host_path: "/".to_owned(),
                    target: "/v".to_owned(),
                    read_only: false,
                    propagation: Propagation::default(),
                    recursion: BindRecursion::default(),
                });
            },
        ];
        validate(&spec()).unwrap();
        for (index, breakage) in breakages.iter().enumerate() {
            let mut broken = spec();
            breakage(&mut broken);
            assert!(validate(&broken).is_err(), "breakage {index}");
        }
    }

    #[test]
    fn only_kernel_parameters_of_namespaces_are_set() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            (
                "net.ipv4.conf.eth0/1.rp_filter",
                "net/ipv4/conf/eth0.1/rp_filter",
            ),
            ("kernel.shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(sysctl(name, "1").unwrap(), path);
        }
        for name in [
            "",
            "net",
            "net.",
            "kernel.hostname",
            "kernel.core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "net..x",
            "net.x y",
            "/proc/sys/net",
            "netx.y",
        ] {
            assert!(sysctl(name, "1").is_err(), "{name}");
        }
    }

    #[test]
    fn a_sysctl_never_leads_elsewhere() {
        // A slash is a dot of the name; two of them would climb.
        for name in ["net.//.x", "net.x.//.//.kernel", "net.//"] {
            assert!(sysctl(name, "1").is_err(), "{name}");
        }
    }

    #[test]
    fn a_tmpfs_has_dockers_defaults_and_options() {
        let plan = tmpfs(&tmpfs_at("/run", &[])).unwrap();
        assert!(!(plan.exec || plan.suid || plan.dev || plan.read_only));
        let options = ["rw", "exec", "size=64m", "mode=1770", "uid=5", "ro"];
        let plan = tmpfs(&tmpfs_at("/run", &options)).unwrap();
        assert!(plan.exec && plan.read_only && !plan.suid);
        let keys: Vec<_> = plan.options.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["size", "mode", "uid"]);
        for bad in [
            "",
            "size",
            "size=",
            "size=1x",
            "size=1mm",
            "mode=9",
            "uid=x",
            "huge=always",
            "mpol=x",
        ] {
            assert!(tmpfs(&tmpfs_at("/run", &[bad])).is_err(), "{bad}");
        }
        assert!(tmpfs(&tmpfs_at("run", &[])).is_err());
    }
}
