use super::*;

fn written(limits: &CgroupLimits, v2: bool) -> Vec<String> {
    let settings = settings(limits, v2);
    let writes = settings.iter().flat_map(|it| &it.writes);
    writes
        .map(|it| format!("{}={}", it.files[0], it.value))
        .collect()
}

#[test]
fn limits_are_files_of_either_version() {
    let limits = CgroupLimits {
        memory: Some(1000),
        memory_reservation: Some(500),
        nano_cpus: Some(1_500_000_000),
        cpu_weight: Some(512),
        cpuset_cpus: Some("0-1".to_owned()),
        io_weight: Some(2000),
        ..CgroupLimits::default()
    };
    assert_eq!(
        written(&limits, true),
        [
            "memory.max=1000",
            "memory.swap.max=1000",
            "memory.low=500",
            "cpu.max=150000 100000",
            "cpu.weight=512",
            "cpuset.cpus=0-1",
            "io.weight=2000",
        ]
    );
    assert_eq!(
        written(&limits, false),
        [
            "memory.memsw.limit_in_bytes=-1",
            "memory.limit_in_bytes=1000",
            "memory.memsw.limit_in_bytes=2000",
            "memory.soft_limit_in_bytes=500",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=150000",
            "cpu.shares=5242",
            "cpuset.cpus=0-1",
            "blkio.bfq.weight=1000",
        ]
    );
}

#[test]
fn swap_and_quota_can_be_without_limit() {
    let limits = CgroupLimits {
        memory: Some(1000),
        memory_swap: Some(u64::MAX),
        cpu_period: Some(50_000),
        ..CgroupLimits::default()
    };
    assert_eq!(
        written(&limits, true),
        [
            "memory.max=1000",
            "memory.swap.max=max",
            "cpu.max=max 50000"
        ]
    );
    assert_eq!(
        written(&limits, false)[2..],
        [
            "memory.memsw.limit_in_bytes=-1",
            "cpu.cfs_period_us=50000",
            "cpu.cfs_quota_us=-1"
        ]
    );
    assert!(written(&CgroupLimits::default(), true).is_empty());
}

#[test]
fn lists_of_processors() {
    assert_eq!(cpu_list("0-2,5").unwrap(), [0, 1, 2, 5]);
    for bad in ["", "x", "2-1", "1,", "-1", "0-99999999", "1-2-3"] {
        assert_eq!(cpu_list(bad), None, "{bad}");
    }
}

#[test]
fn processors_that_are_not_there_are_named() {
    let asks = |nano_cpus, cpuset: Option<&str>| {
        let limits = CgroupLimits {
            nano_cpus,
            cpuset_cpus: cpuset.map(str::to_owned),
            ..CgroupLimits::default()
        };
        check_cpus(&limits, "0-1\n").map_err(|error| error.to_string())
    };
    assert!(asks(Some(2_000_000_000), Some("1")).is_ok());
    let error = asks(Some(2_500_000_000), None).unwrap_err();
    assert!(
        error.contains("2.5 processors: there are only 2"),
        "{error}"
    );
    let error = asks(None, Some("0-2")).unwrap_err();
    assert!(
        error.contains("no processors 0-2: this machine has 0-1"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_missing_is_named_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.max");
    fs::write(&file, "").unwrap();
    let mut limits = CgroupLimits {
        memory: Some(1000),
        ..CgroupLimits::default()
    };
    apply(&memory(&limits, true).unwrap(), folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "1000");
    limits.memory_swap = Some(1500);
    let error = apply(&memory(&limits, true).unwrap(), folder.path()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("no memory.swap.max") && error.contains("leave --memory-swap out"),
        "{error}"
    );
}

#[test]
fn a_new_group_of_processors_has_those_above_it() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("isolazi/x");
    fs::create_dir_all(&folder).unwrap();
    for (at, text) in [
        (base.path(), "0-1\n"),
        (folder.parent().unwrap(), "\n"),
        (&folder, ""),
    ] {
        fs::write(at.join("cpuset.cpus"), text).unwrap();
        fs::write(at.join("cpuset.mems"), text).unwrap();
    }
    fill_cpuset(&folder).unwrap();
    assert_eq!(
        fs::read_to_string(folder.join("cpuset.mems")).unwrap(),
        "0-1\n"
    );
}

#[test]
fn shares_and_weights_of_v1_become_those_of_v2() {
    let shares = |shares| CgroupLimits {
        cpu_shares: Some(shares),
        ..CgroupLimits::default()
    };
    assert_eq!(written(&shares(1024), false), ["cpu.shares=1024"]);
    assert_eq!(written(&shares(1024), true), ["cpu.weight=39"]);
    assert_eq!(written(&shares(262_144), true), ["cpu.weight=10000"]);
    let weight = |weight| CgroupLimits {
        blkio_weight: Some(weight),
        ..CgroupLimits::default()
    };
    assert_eq!(written(&weight(10), true), ["io.weight=1"]);
    assert_eq!(written(&weight(1000), true), ["io.weight=10000"]);
    assert_eq!(written(&weight(300), false), ["blkio.bfq.weight=300"]);
}

#[test]
fn memory_nodes_that_are_not_there_are_named() {
    let limits = CgroupLimits {
        cpuset_mems: Some("0-1".to_owned()),
        ..CgroupLimits::default()
    };
    assert!(check_nodes(&limits, "0-3\n").is_ok());
    let error = check_nodes(&limits, "").unwrap_err().to_string();
    assert!(
        error.contains("no memory nodes 0-1: this machine has 0"),
        "{error}"
    );
}
