//! The options of a container, and volumes, under Docker's field names.

use std::time::{Duration, UNIX_EPOCH};

use isolazi_protocol::{
    CgroupLimits, ContainerDetail, ContainerOptions, DeviceMapping, DeviceRate, Privileges,
    TmpfsMount, Ulimit, VolumeDetail, VolumeMount,
};
use serde_json::{Map, Value, json};

use super::userns;

use crate::image::health_described;

/// Bytes that `/dev/shm` may hold where nobody says.
const SHM_BYTES: u64 = 64 << 20;

/// Adds the options to what is said of a container.
pub(super) fn describe(described: &mut Value, detail: &ContainerDetail) {
    let options = &detail.spec.options;
    let anonymous = options.volumes.iter().filter(|it| it.anonymous);
    extend(
        &mut described["Config"],
        json!({
            "Labels": options.labels,
            "StopTimeout": options.stop_timeout,
            "Volumes": places(anonymous.map(|it| &it.target)),
        }),
    );
    if let Some(check) = &options.health {
        described["Config"]["Healthcheck"] = health_described(check);
    }
    extend(&mut described["HostConfig"], host_config(options));
    let privileges = privileges_described(&options.privileges);
    extend(&mut described["HostConfig"], privileges);
    extend(&mut described["HostConfig"], userns::describe(detail));
    let limits = &detail.spec.resources.limits;
    extend(&mut described["HostConfig"], limits_described(limits));
    if let Some(mounts) = described["Mounts"].as_array_mut() {
        let root = engine_root(&detail.directory);
        mounts.extend(options.volumes.iter().map(|it| volume_mount(it, root)));
        mounts.extend(options.tmpfs.iter().map(tmpfs_mount));
    }
}

/// A limit of processes as Docker writes it.
pub(super) fn pids_limit(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(-1)
}

/// The JSON object that `isolazi volume inspect` prints.
pub fn volume(volume: &VolumeDetail) -> Value {
    let created = UNIX_EPOCH + Duration::from_nanos(volume.created_at);
    json!({
        "CreatedAt": humantime::format_rfc3339_seconds(created).to_string(),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

fn extend(object: &mut Value, with: Value) {
    if let (Value::Object(object), Value::Object(with)) = (object, with) {
        object.extend(with);
    }
}

fn host_config(options: &ContainerOptions) -> Value {
    let hosts = options.extra_hosts.iter();
    let hosts = hosts.map(|host| match host.address {
        Some(address) => format!("{}:{address}", host.name),
        None => format!("{}:host-gateway", host.name),
    });
    let tmpfs = options.tmpfs.iter();
    let tmpfs = tmpfs.map(|it| (it.target.clone(), Value::String(it.options.join(","))));
    json!({
        "Annotations": options.annotations,
        "CgroupParent": options.cgroup_parent.as_deref().unwrap_or_default(),
        "ReadonlyRootfs": options.read_only,
        "ExtraHosts": hosts.collect::<Vec<_>>(),
        "Dns": options.dns.servers,
        "DnsSearch": options.dns.search,
        "DnsOptions": options.dns.options,
        "Ulimits": options.ulimits.iter().map(ulimit).collect::<Vec<_>>(),
        "ShmSize": options.shm_size.unwrap_or(SHM_BYTES),
        "GroupAdd": options.groups,
        "Init": options.init,
        "Sysctls": options.sysctls,
        "OomScoreAdj": options.oom_score_adj.unwrap_or_default(),
        "Tmpfs": tmpfs.collect::<Map<_, _>>(),
    })
}

/// What nobody asked for is null, as with Docker.
fn privileges_described(privileges: &Privileges) -> Value {
    let device = |it: &DeviceMapping| {
        json!({
            "PathOnHost": it.host,
            "PathInContainer": it.container,
            "CgroupPermissions": it.access,
        })
    };
    let rules = privileges.device_rules.iter().map(ToString::to_string);
    json!({
        "Privileged": privileges.privileged,
        "CapAdd": some(privileges.cap_add.iter().map(|it| json!(it))),
        "CapDrop": some(privileges.cap_drop.iter().map(|it| json!(it))),
        "Devices": privileges.devices.iter().map(device).collect::<Vec<_>>(),
        "DeviceCgroupRules": some(rules.map(Value::String)),
    })
}

fn some(values: impl Iterator<Item = Value>) -> Value {
    let values: Vec<Value> = values.collect();
    match values.is_empty() {
        true => Value::Null,
        false => Value::Array(values),
    }
}

/// What is not limited is 0, as with Docker, whose weights are others.
fn limits_described(limits: &CgroupLimits) -> Value {
    let swap = match (limits.memory_swap, limits.memory) {
        (Some(both), _) => i64::try_from(both).unwrap_or(-1),
        (None, memory) => memory.map_or(0, |it| i64::try_from(it.saturating_mul(2)).unwrap_or(-1)),
    };
    json!({
        "Memory": limits.memory.unwrap_or_default(),
        "MemorySwap": swap,
        "MemoryReservation": limits.memory_reservation.unwrap_or_default(),
        "NanoCpus": limits.nano_cpus.unwrap_or_default(),
        "CpuQuota": limits.cpu_quota.unwrap_or_default(),
        "CpuPeriod": limits.cpu_period.unwrap_or_default(),
        "CpuWeight": limits.cpu_weight.unwrap_or_default(),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "IoWeight": limits.io_weight.unwrap_or_default(),
        "CpuShares": limits.cpu_shares.unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "BlkioWeight": limits.blkio_weight.unwrap_or_default(),
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "BlkioDeviceReadBps": rates(&limits.device_read_bps),
        "BlkioDeviceWriteBps": rates(&limits.device_write_bps),
        "BlkioDeviceReadIOps": rates(&limits.device_read_iops),
        "BlkioDeviceWriteIOps": rates(&limits.device_write_iops),
    })
}

fn rates(rates: &[DeviceRate]) -> Value {
    some(
        rates
            .iter()
            .map(|it| json!({ "Path": it.path, "Rate": it.rate })),
    )
}

/// A set, as Go programs write one.
fn places<'a>(paths: impl Iterator<Item = &'a String>) -> Value {
    let set = paths.map(|path| (path.clone(), json!({})));
    Value::Object(set.collect())
}

fn ulimit(ulimit: &Ulimit) -> Value {
    let value = |limit: Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
    json!({
        "Name": ulimit.limit.name(),
        "Soft": value(ulimit.soft),
        "Hard": value(ulimit.hard),
    })
}

/// A container's folder lies two levels below the engine's.
fn engine_root(directory: &str) -> &str {
    let up = |path: &'_ str| path.rfind('/').unwrap_or_default();
    let containers = &directory[..up(directory)];
    &containers[..up(containers)]
}

fn volume_mount(mount: &VolumeMount, root: &str) -> Value {
    json!({
        "Type": "volume",
        "Name": mount.name,
        "Source": format!("{root}/volumes/{}/_data", mount.name),
        "Destination": mount.target,
        "Driver": "local",
        "Mode": "",
        "RW": !mount.read_only,
        "Propagation": "",
    })
}

fn tmpfs_mount(mount: &TmpfsMount) -> Value {
    json!({
        "Type": "tmpfs",
        "Source": "",
        "Destination": mount.target,
        "Mode": "",
        "RW": !mount.options.iter().any(|option| option == "ro"),
        "Propagation": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_folder_is_two_up() {
        assert_eq!(engine_root("/root/containers/abc"), "/root");
        assert_eq!(engine_root("abc"), "");
    }

    #[test]
    fn no_limit_is_minus_one() {
        assert_eq!(pids_limit(u64::MAX), -1);
        assert_eq!(pids_limit(5), 5);
    }
}
