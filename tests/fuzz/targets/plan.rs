//! What a host asks an agent to run: a specification as it comes over the wire,
//! or JSON with what is to differ from an ordinary one. It is refused, or comes
//! to a plan that root can carry out without looking at it again.

#![no_main]

use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use isolazi_agent::container::fuzzing;
use isolazi_agent::launch::plan::{CgroupPlan, LaunchPlan, RootfsPlan, Settings};
use isolazi_agent::sys::caps;
use isolazi_protocol::{ContainerId, ContainerSpec, decode, encode};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The container's own; nothing is made there.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(std::env::temp_dir);
static ID: LazyLock<ContainerId> = LazyLock::new(|| ContainerId::from_random(&[0xab; 32]));
static ORDINARY: LazyLock<Value> = LazyLock::new(|| {
    let digest = format!("sha256:{}", "0".repeat(64));
    json!({
        "image": {"reference": "x", "id": digest},
        "layers": [digest],
        "process": {"args": ["x"], "env": [], "cwd": "/", "user": "", "open_stdin": false},
        "mounts": [],
        "auto_remove": false,
        "network": "none",
        "seccomp": "disabled",
        "resources": {"pids_limit": 1},
        "resolv_conf": "",
    })
});

fuzz_target!(|data: &[u8]| {
    let Some(spec) = decode(data).ok().or_else(|| from_json(data)) else {
        return;
    };
    let sent = encode(&spec).expect("what was read can be sent");
    assert_eq!(decode(&sent).ok().as_ref(), Some(&spec));
    match fuzzing::plan(&ID, spec.clone(), &FOLDER) {
        Ok(plan) => check(&spec, &plan),
        Err(error) => assert!(!error.message.is_empty()),
    }
});

fn from_json(data: &[u8]) -> Option<ContainerSpec> {
    let mut whole = ORDINARY.clone();
    change(&mut whole, serde_json::from_slice(data).ok()?);
    serde_json::from_value(whole).ok()
}

fn change(value: &mut Value, by: Value) {
    match (value, by) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, by) in changes {
                change(fields.entry(key).or_insert(Value::Null), by);
            }
        }
        (value, by) => *value = by,
    }
}

fn check(spec: &ContainerSpec, plan: &LaunchPlan) {
    rootfs(spec, &plan.rootfs);
    let etc: Vec<_> = plan.etc.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(etc, ["hosts", "hostname", "resolv.conf"]);
    plan.etc.iter().for_each(|it| assert!(is_ours(&it.source)));
    assert!((1..=64).contains(&plan.hostname.len()));
    for bind in &plan.binds {
        assert!(is_absolute(&bind.source), "{bind:?}");
        assert!(is_place(&bind.target), "{bind:?}");
    }
    let process = &plan.process;
    assert!(!process.args[0].is_empty() && is_absolute(Path::new(&process.cwd)));
    let words = process
        .args
        .iter()
        .chain(&process.env)
        .chain([&process.user]);
    words.for_each(|word| assert!(!word.contains('\0')));
    cgroup(&plan.cgroup);
    settings(&plan.settings);
    let kept = serde_json::to_vec(plan).expect("a plan can be kept");
    let read: LaunchPlan = serde_json::from_slice(&kept).expect("and read");
    assert_eq!(&read, plan);
}

fn rootfs(spec: &ContainerSpec, rootfs: &RootfsPlan) {
    assert_eq!(rootfs.lower.len(), spec.layers.len());
    assert!(!rootfs.lower.is_empty());
    for path in [&rootfs.upper, &rootfs.work, &rootfs.mount_point] {
        assert!(is_ours(path));
    }
    rootfs.lower.iter().for_each(|path| assert!(is_ours(path)));
}

fn cgroup(plan: &CgroupPlan) {
    assert!(plan.pids_limit > 0);
    let path = plan.path.strip_prefix('/').unwrap_or(&plan.path);
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\n']);
    assert!(path.split('/').all(is_name), "{path:?}");
    assert!(path.ends_with(&format!("/{}", *ID)), "{path:?}");
    let limits = &plan.limits;
    assert!(limits.memory_swap.is_none() || limits.memory_swap >= limits.memory);
    assert!(limits.cpu_quota.is_none_or(|it| it > 0));
}

fn settings(settings: &Settings) {
    for (path, value) in &settings.sysctls {
        let own = ["net/", "fs/mqueue/", "kernel/"];
        assert!(own.iter().any(|it| path.starts_with(it)), "{path}");
        assert!(
            is_inside(Path::new(path)) && !value.contains('\0'),
            "{path}"
        );
    }
    for it in &settings.tmpfs {
        assert!(is_place(&it.target), "{it:?}");
        let plain = |text: &str| !text.is_empty() && !text.contains([',', '=', '\0']);
        assert!(
            it.options
                .iter()
                .all(|(key, value)| plain(key) && plain(value)),
            "{it:?}"
        );
    }
    settings
        .devices
        .iter()
        .for_each(|it| assert!(is_place(&it.target), "{it:?}"));
    for it in &settings.fills {
        assert!(is_place(&it.source) && is_ours(&it.volume) && is_ours(&it.done));
    }
    let groups = settings.groups.iter();
    groups.for_each(|it| assert!(!it.is_empty() && !it.contains(['\0', '\n', ':'])));
    assert!(settings.shm_size != Some(0));
    assert!(
        settings
            .oom_score_adj
            .is_none_or(|it| (-1000..=1000).contains(&it))
    );
    let asked = settings.capabilities.expect("they are decided");
    let own = caps::permitted().expect("they can be read");
    assert_eq!(asked & !own.bits(), 0, "more than we have ourselves");
}

fn is_absolute(path: &Path) -> bool {
    let text = path.to_string_lossy();
    path.is_absolute() && !text.contains('\0')
}

/// Absolute, and nowhere but where it says.
fn is_place(path: &Path) -> bool {
    let climbs = path.components().any(|it| it == Component::ParentDir);
    is_absolute(path) && !climbs && path.file_name().is_some()
}

fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|it| matches!(it, Component::Normal(_)))
}

fn is_ours(path: &Path) -> bool {
    path.strip_prefix(&*FOLDER).is_ok_and(is_inside)
}
