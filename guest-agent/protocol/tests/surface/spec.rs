//! How containers are asked for, with every field in use.

use std::collections::BTreeMap;

use isolazi_protocol::*;

use super::{digest, name, network};

fn process() -> ProcessSpec {
    ProcessSpec {
        args: vec!["/bin/true".to_owned()],
        env: vec!["A=1".to_owned()],
        cwd: "/".to_owned(),
        user: "1:2".to_owned(),
        terminal: Some(WindowSize {
            rows: 24,
            columns: 80,
        }),
        open_stdin: true,
    }
}

pub(super) fn spec() -> ContainerSpec {
    let share = BindSource::Share {
        tag: "t".to_owned(),
        subpath: "s".to_owned(),
    };
    let mount = |source, read_only| BindMount {
        source,
        host_path: "/h".to_owned(),
        target: "/t".to_owned(),
        read_only,
        propagation: Propagation::RSlave,
        recursion: BindRecursion::Writable,
    };
    ContainerSpec {
        name: Some(name()),
        image: ImageIdentity {
            reference: "alpine".to_owned(),
            id: digest(1),
        },
        layers: vec![digest(2)],
        process: process(),
        hostname: Some("h".to_owned()),
        mounts: vec![
            mount(BindSource::Path("/p".to_owned()), true),
            mount(share, false),
        ],
        stop_signal: Some("SIGQUIT".to_owned()),
        auto_remove: true,
        network: NetworkMode::Networks(vec![network::request()]),
        seccomp: SeccompProfile::Default,
        resources: Resources {
            pids_limit: 5,
            limits: limits(),
        },
        resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
        restart: RestartPolicy::OnFailure { most: 3 },
        options: options(),
    }
}

pub(super) fn limits() -> CgroupLimits {
    CgroupLimits {
        memory: Some(1),
        memory_swap: Some(2),
        memory_reservation: Some(3),
        nano_cpus: Some(4),
        cpu_quota: Some(5),
        cpu_period: Some(6),
        cpu_weight: Some(7),
        cpuset_cpus: Some("0-1".to_owned()),
        io_weight: Some(8),
        cpu_shares: Some(9),
        cpuset_mems: Some("0".to_owned()),
        blkio_weight: Some(10),
        memory_swappiness: Some(11),
        oom_kill_disable: true,
        device_read_bps: rate(12),
        device_write_bps: rate(13),
        device_read_iops: rate(14),
        device_write_iops: rate(15),
    }
}

fn rate(rate: u64) -> Vec<DeviceRate> {
    vec![DeviceRate {
        path: "/dev/x".to_owned(),
        rate,
    }]
}

fn privileges() -> Privileges {
    Privileges {
        privileged: true,
        cap_add: vec![Capabilities::All],
        cap_drop: vec!["kill".parse().unwrap()],
        devices: vec![DeviceMapping {
            host: "/dev/x".to_owned(),
            container: "/dev/y".to_owned(),
            access: DeviceAccess::ALL,
        }],
        device_rules: vec!["c 1:* r".parse().unwrap()],
    }
}

pub(super) fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("k".to_owned(), "v".to_owned())])
}

fn options() -> ContainerOptions {
    ContainerOptions {
        network: network::options(),
        userns: UserNamespace::Mapped {
            users: vec![IdMapping {
                container: 0,
                host: 1000,
                size: 1,
            }],
            groups: vec![],
        },
        security: isolazi_protocol::SecurityOptions {
            no_new_privileges: Some(false),
            system_paths_unconfined: true,
            apparmor: Some("p".to_owned()),
            labels: vec!["disable".to_owned()],
        },
        labels: labels(),
        annotations: labels(),
        stop_timeout: Some(3),
        read_only: true,
        extra_hosts: vec![ExtraHost {
            name: "db".to_owned(),
            address: Some([192, 0, 2, 7].into()),
        }],
        dns: Dns {
            servers: vec![[192, 0, 2, 53].into()],
            search: vec!["example.org".to_owned()],
            options: vec!["ndots:2".to_owned()],
        },
        ulimits: vec![Ulimit {
            limit: Limit::Nofile,
            soft: Some(1024),
            hard: None,
        }],
        shm_size: Some(1 << 20),
        groups: vec!["staff".to_owned()],
        init: true,
        sysctls: labels(),
        oom_score_adj: Some(-5),
        volumes: vec![VolumeMount {
            name: "data".to_owned(),
            anonymous: true,
            target: "/d".to_owned(),
            read_only: true,
            no_copy: true,
            labels: labels(),
        }],
        tmpfs: vec![TmpfsMount {
            target: "/run".to_owned(),
            options: vec!["size=1m".to_owned()],
        }],
        health: Some(HealthCheck {
            test: HealthTest::Shell {
                line: "true".to_owned(),
                shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            },
            interval: 1,
            timeout: 2,
            start_period: 3,
            start_interval: 4,
            retries: 5,
        }),
        privileges: privileges(),
        cgroup_parent: Some("/p".to_owned()),
    }
}
