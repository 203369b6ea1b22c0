//! What a container is kept from, without any option.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            it_is_pid_1_and_sees_only_its_own,
            a_low_port_needs_no_privilege,
            eleven_capabilities_and_no_more,
            no_new_privileges_and_a_filter,
            forbidden_calls_are_refused,
            ordinary_calls_are_not,
            foreign_call_tables_are_closed,
            masked_paths_are_empty,
            system_paths_are_read_only,
            devices_are_the_standard_ones,
            device_nodes_cannot_be_made,
            mounts_have_their_flags,
            no_descriptor_leaks,
            namespaces_are_its_own,
            the_hosts_files_are_not_there,
            shared_memory_works,
            a_number_of_processes_is_the_limit,
            dropped_privileges_stay_dropped,
        ],
        NativeOnly: [
            native_containers_are_not_in_the_hosts_namespaces,
        ],
        VmOnly: [
            a_vm_has_another_kernel,
        ],
    }
}

/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, sys_chroot, setfcap (bits 0, 1, 3 to 8, 10, 18, 31).
const ELEVEN: &str = "00000000800405fb";

fn it_is_pid_1_and_sees_only_its_own(world: &World) -> Result<()> {
    let script = "echo $$; ls -d /proc/[0-9]* | wc -l";
    let output = world.sh(script).output()?.success()?;
    let said = output.stdout_text();
    let mut lines = said.lines();
    same("its PID", &lines.next(), &Some("1"))?;
    // The shell, and `ls` and `wc` as they start.
    let seen: u32 = lines.next().unwrap_or_default().parse()?;
    ensure!(
        seen <= 3,
        "{}",
        output.complaint("it sees processes of others")
    );
    Ok(())
}

fn a_low_port_needs_no_privilege(world: &World) -> Result<()> {
    let script = "nc -l -p 80 -e echo heard & until nc -w 5 127.0.0.1 80 </dev/null 2>/dev/null; do sleep 0.1; done";
    let output = world
        .run_with(&["-u", "alice"], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("heard\n")?;
    Ok(())
}

fn eleven_capabilities_and_no_more(world: &World) -> Result<()> {
    let status = status(world, &[])?;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        same(set, &status[set].as_str(), &ELEVEN)?;
    }
    for set in ["CapInh", "CapAmb"] {
        same(set, &status[set].as_str(), &"0000000000000000")?;
    }
    let status = self::status(world, &["-u", "alice"])?;
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        same(set, &status[set].as_str(), &"0000000000000000")?;
    }
    same("CapBnd", &status["CapBnd"].as_str(), &ELEVEN)
}

fn no_new_privileges_and_a_filter(world: &World) -> Result<()> {
    let status = status(world, &[])?;
    same("NoNewPrivs", &status["NoNewPrivs"].as_str(), &"1")?;
    same("Seccomp", &status["Seccomp"].as_str(), &"2")
}

/// `/proc/self/status` of a process in a container.
pub(super) fn status(world: &World, options: &[&str]) -> Result<BTreeMap<String, String>> {
    let output = world
        .run_with(options, ["cat", "/proc/self/status"])
        .output()?
        .success()?;
    let text = output.stdout_text();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect())
}

/// What the probe found, by call.
fn probe(world: &World, what: &str) -> Result<BTreeMap<String, String>> {
    let output = world.run(["probe", what]).output()?.success()?;
    let text = output.stdout_text();
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    Ok(pairs
        .map(|(call, result)| (call.to_owned(), result.to_owned()))
        .collect())
}

fn forbidden_calls_are_refused(world: &World) -> Result<()> {
    let found = probe(world, "forbidden")?;
    ensure!(found.len() > 30, "the probe says too little: {found:?}");
    // A refused socket family may say so in its own words.
    let refused = ["EPERM", "ENOSYS", "EAFNOSUPPORT"];
    let passed: Vec<_> = found
        .iter()
        .filter(|(_, result)| !refused.contains(&result.as_str()))
        .collect();
    ensure!(passed.is_empty(), "not refused: {passed:?}");
    // libc falls back to clone only from this answer.
    same("clone3", &found["clone3"].as_str(), &"ENOSYS")
}

fn ordinary_calls_are_not(world: &World) -> Result<()> {
    let found = probe(world, "allowed")?;
    ensure!(found.len() > 8, "the probe says too little: {found:?}");
    let failed: Vec<_> = found
        .iter()
        .filter(|(call, result)| *result != "ok" && *call != "memfd_create")
        .collect();
    ensure!(failed.is_empty(), "refused: {failed:?}");
    same("memfd_create", &found["memfd_create"].as_str(), &"EFAULT")
}

fn foreign_call_tables_are_closed(world: &World) -> Result<()> {
    // Killed, or answered with an error where the kernel has no such table.
    for table in ["int80", "x32"] {
        let output = world.run(["probe", table]).output()?;
        let said = output.stdout_text();
        let closed = said.is_empty() || said.contains("ENOSYS") || said.contains("-38");
        ensure!(closed, "{}", output.complaint("the call went through"));
    }
    Ok(())
}

fn masked_paths_are_empty(world: &World) -> Result<()> {
    let script = "for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do \
        f=/proc/$f; [ -e $f ] || continue; \
        if [ -d $f ]; then ls -A $f; else head -c 1 $f; fi; done 2>&1; \
        for f in /sys/firmware /sys/devices/virtual/powercap /sys/fs/selinux; do [ ! -e $f ] || ls -A $f; done";
    let output = world.sh(script).output()?;
    output.success()?.stdout_is("")?;
    Ok(())
}

fn system_paths_are_read_only(world: &World) -> Result<()> {
    let script = "for f in /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/default_smp_affinity; do \
        [ ! -e $f ] || { (echo 1 >$f) 2>/dev/null && echo wrote $f; }; done; \
        for d in /proc/sys /proc/bus /proc/fs /proc/irq /sys /sys/kernel /sys/fs/cgroup; do \
        [ ! -d $d ] || { mkdir $d/made 2>/dev/null && echo made $d/made; }; done; \
        (echo core >/proc/sys/kernel/core_pattern) 2>&1 | grep -o 'Read-only file system'";
    let output = world.sh(script).output()?.success()?;
    output.stdout_is("Read-only file system\n")?;
    Ok(())
}

fn devices_are_the_standard_ones(world: &World) -> Result<()> {
    let output = world.run(["ls", "/dev"]).output()?.success()?;
    let said = output.stdout_text();
    let names: Vec<_> = said.split_whitespace().collect();
    let standard = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    same("/dev", &names, &standard.to_vec())?;
    let script = "head -c 4 /dev/zero | od -An -tx1; echo x >/dev/null; head -c 8 /dev/urandom | wc -c; (echo x >/dev/full) 2>&1 | grep -o 'No space'; for f in fd stdin ptmx; do readlink /dev/$f; done";
    let output = world.sh(script).output()?;
    output.stdout_is(" 00 00 00 00\n8\nNo space\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n")?;
    Ok(())
}

fn device_nodes_cannot_be_made(world: &World) -> Result<()> {
    let script = "mknod /tmp/disk b 8 0 2>/dev/null && echo made; mknod /tmp/mem c 1 1 2>/dev/null && echo made; true";
    world.sh(script).output()?.success()?.stdout_is("")?;
    Ok(())
}

fn mounts_have_their_flags(world: &World) -> Result<()> {
    let output = world
        .run(["cat", "/proc/self/mounts"])
        .output()?
        .success()?;
    let text = output.stdout_text();
    for (at, options) in [
        ("/proc", "rw,nosuid,nodev,noexec"),
        ("/dev", "nosuid"),
        ("/sys", "ro,nosuid,nodev,noexec"),
        ("/dev/shm", "rw,nosuid,nodev,noexec"),
        ("/dev/mqueue", "nosuid,nodev,noexec"),
        ("/dev/pts", "nosuid,noexec"),
    ] {
        let mut lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = lines.find(|fields| fields.get(1) == Some(&at));
        let mount = mount.with_context(|| format!("{at} is no mount: {text}"))?;
        let set: Vec<_> = mount[3].split(',').collect();
        let missing: Vec<_> = options.split(',').filter(|o| !set.contains(o)).collect();
        ensure!(missing.is_empty(), "{at} lacks {missing:?}: {mount:?}");
    }
    Ok(())
}

fn no_descriptor_leaks(world: &World) -> Result<()> {
    // `ls` itself has the folder open as 3.
    let output = world.run(["ls", "/proc/self/fd"]).output()?.success()?;
    output.stdout_is("0\n1\n2\n3\n")?;
    let output = world
        .run_with(&["-i"], ["ls", "/proc/self/fd"])
        .output()?
        .success()?;
    output.stdout_is("0\n1\n2\n3\n")?;
    Ok(())
}

fn namespaces_are_its_own(world: &World) -> Result<()> {
    let script = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    // Both run at the same time: after its end a namespace's number is used again.
    let both = [
        world.start(&[], &["sleep", "1000"])?,
        world.start(&[], &["sleep", "1000"])?,
    ];
    let seen = both.iter().map(|container| {
        let output = container.exec(&[], &["sh", "-c", script]).output()?;
        Ok(output.success()?.stdout_text())
    });
    let seen = seen.collect::<Result<Vec<_>>>()?;
    same("namespaces", &seen[0].lines().count(), &6)?;
    let shared: Vec<_> = seen[0]
        .lines()
        .filter(|line| seen[1].contains(*line))
        .collect();
    ensure!(
        shared.is_empty(),
        "shared between two containers: {shared:?}"
    );
    Ok(())
}

fn the_hosts_files_are_not_there(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let shown = folder.path().display().to_string();
    world.run(["ls", &shown]).output()?.code(1)?;
    let output = world
        .sh("grep -c overlay /proc/self/mounts; ls /")
        .output()?
        .success()?;
    output.stdout_is("1\nbin\ndata\ndev\netc\nhome\nproc\nroot\nsys\ntmp\nvar\n")?;
    Ok(())
}

fn shared_memory_works(world: &World) -> Result<()> {
    let script = "echo x >/dev/shm/file && cat /dev/shm/file && stat -c %a /dev/shm";
    world
        .sh(script)
        .output()?
        .success()?
        .stdout_is("x\n1777\n")?;
    Ok(())
}

fn a_number_of_processes_is_the_limit(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let limit = &container.inspect()?["HostConfig"]["PidsLimit"];
    same("PidsLimit", &limit.as_i64(), &Some(2048))?;
    // Version 1 of the hierarchy has it one folder further down.
    let script = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null";
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    output.stdout_has("2048\n")?;
    Ok(())
}

fn dropped_privileges_stay_dropped(world: &World) -> Result<()> {
    // A setuid program gives nobody anything.
    let script = "cp /bin/probe /tmp/probe && chmod 4755 /tmp/probe && chmod 755 /tmp && su -s /tmp/probe alice users";
    let output = world.sh(script).output()?.success()?;
    output.stdout_is("users: 1000\t1000\t1000\t1000\n")?;
    Ok(())
}

fn native_containers_are_not_in_the_hosts_namespaces(world: &World) -> Result<()> {
    let script = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let inside = world.sh(script).output()?.success()?.stdout_text();
    for name in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}"))?;
        let own = own.to_string_lossy().into_owned();
        ensure!(!inside.contains(&own), "it shares {own} with the host");
    }
    Ok(())
}

fn a_vm_has_another_kernel(world: &World) -> Result<()> {
    let inside = world
        .run(["uname", "-r"])
        .output()?
        .success()?
        .stdout_text();
    let own = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(inside != own, "both say {own}");
    Ok(())
}
