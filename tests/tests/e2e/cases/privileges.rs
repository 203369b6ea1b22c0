//! What a container may do: capabilities, `--privileged`, and devices.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::{Value, json};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            capabilities_are_added_and_dropped,
            what_has_no_capability_cannot,
            capabilities_are_shown_and_hold_for_exec,
            a_user_gets_no_capability,
            capabilities_that_are_none_are_refused,
            device_files_that_were_made_open_only_as_allowed,
            a_privileged_container_may_do_everything,
            an_ordinary_container_is_not_privileged,
            a_device_is_shown,
            a_folder_of_devices_is_shown,
            a_device_can_be_anywhere,
            a_device_is_used_only_as_allowed,
            devices_that_are_none_are_refused,
        ],
    }
}

/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, sys_chroot, setfcap (bits 0, 1, 3 to 8, 10, 18, 31).
const ELEVEN: u64 = 0x8004_05fb;
const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;
const MKNOD: u64 = 1 << 27;

/// The lines of `/proc/self/status` that are asked about, as numbers.
const STATUS: [&str; 2] = ["grep -E '^(Cap|NoNewPrivs|Seccomp:)'", "/proc/self/status"];

fn field(status: &str, key: &str) -> Result<u64> {
    let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let found = lines.find(|(name, _)| *name == key);
    let (_, value) = found.with_context(|| format!("no {key} in {status}"))?;
    Ok(u64::from_str_radix(value.trim(), 16)?)
}

/// Of a process in a container that is run with `options`.
fn status(world: &World, options: &[&str]) -> Result<String> {
    let script = STATUS.join(" ");
    let run = world.run_with(options, ["sh", "-c", &script]);
    Ok(run.output()?.success()?.stdout_text())
}

fn capabilities_are_added_and_dropped(world: &World) -> Result<()> {
    let sets: [(&[&str], u64); 6] = [
        (
            &["--cap-add", "NET_RAW", "--cap-drop", "cap_chown"],
            (ELEVEN | NET_RAW) & !CHOWN,
        ),
        (&["--cap-drop", "all"], 0),
        (&["--cap-drop", "ALL", "--cap-add", "CAP_KILL"], KILL),
        (&["--cap-drop", "KILL", "--cap-add", "kill"], ELEVEN),
        (
            &["--cap-add=mknod", "--cap-add=net_raw"],
            ELEVEN | MKNOD | NET_RAW,
        ),
        (&["--cap-drop", "NET_RAW"], ELEVEN),
    ];
    for (options, set) in sets {
        let status = status(world, options)?;
        for kind in ["CapPrm", "CapEff", "CapBnd"] {
            same(&format!("{options:?} {kind}"), &field(&status, kind)?, &set)?;
        }
        same("CapAmb", &field(&status, "CapAmb")?, &0)?;
        same("CapInh", &field(&status, "CapInh")?, &0)?;
    }
    let status = status(world, &["--cap-add", "ALL", "--cap-drop", "MKNOD"])?;
    let set = field(&status, "CapEff")?;
    ensure!(
        set & SYS_ADMIN != 0 && set & MKNOD == 0,
        "all but one are {set:x}"
    );
    Ok(())
}

fn what_has_no_capability_cannot(world: &World) -> Result<()> {
    let script = "touch /tmp/x && chown alice /tmp/x 2>/dev/null && echo changed; true";
    let with = world.sh(script).output()?;
    with.success()?.stdout_is("changed\n")?;
    let without = world
        .run_with(&["--cap-drop", "CHOWN"], ["sh", "-c", script])
        .output()?;
    without.success()?.stdout_is("")?;
    Ok(())
}

fn capabilities_are_shown_and_hold_for_exec(world: &World) -> Result<()> {
    let options = [
        "--cap-add",
        "net_raw",
        "--cap-add",
        "CAP_CHOWN",
        "--cap-drop",
        "kill",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let host = container.inspect()?["HostConfig"].take();
    same(
        "CapAdd",
        &host["CapAdd"],
        &json!(["CAP_CHOWN", "CAP_NET_RAW"]),
    )?;
    same("CapDrop", &host["CapDrop"], &json!(["CAP_KILL"]))?;
    same("Privileged", &host["Privileged"], &json!(false))?;
    let script = STATUS.join(" ");
    let of = |options: &[&str]| -> Result<String> {
        let exec = container.exec(options, &["sh", "-c", &script]);
        Ok(exec.output()?.success()?.stdout_text())
    };
    let set = (ELEVEN | NET_RAW) & !KILL;
    same("of exec", &field(&of(&[])?, "CapEff")?, &set)?;
    let all = field(&of(&["--privileged"])?, "CapEff")?;
    ensure!(
        all & SYS_ADMIN != 0 && all & KILL != 0,
        "privileged: {all:x}"
    );
    // A further start is as the first.
    let restart = world.isolazi(["restart", "-t", "0", container.name()]);
    restart.output()?.success()?;
    same("after a restart", &field(&of(&[])?, "CapEff")?, &set)
}

fn a_user_gets_no_capability(world: &World) -> Result<()> {
    let status = status(world, &["-u", "alice", "--cap-add", "NET_RAW"])?;
    for kind in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        same(kind, &field(&status, kind)?, &0)?;
    }
    same("CapBnd", &field(&status, "CapBnd")?, &(ELEVEN | NET_RAW))
}

fn capabilities_that_are_none_are_refused(world: &World) -> Result<()> {
    let container = world.container();
    for (options, said) in [
        (["--cap-add", "NET_ADMN"], "did you mean CAP_NET_ADMIN?"),
        (
            ["--cap-drop", "everything"],
            "'everything' is not a capability",
        ),
        (["--cap-add", ""], "'' is not a capability"),
    ] {
        let run = world.isolazi(["run", "--name", container.name()]);
        let run = run.args(options).args([&world.busybox(), "true"]);
        run.output()?.fails_with(125, said)?;
        ensure!(!container.is_listed()?, "{options:?} left a container");
    }
    Ok(())
}

fn device_files_that_were_made_open_only_as_allowed(world: &World) -> Result<()> {
    let script = "mknod /tmp/null c 1 3 && echo x >/tmp/null && echo wrote; \
        mknod /tmp/disk b 254 0 && (exec 3</tmp/disk) 2>/dev/null && echo opened a disk; \
        mknod /dev/log c 1 11 && (exec 3>/dev/log) 2>/dev/null && echo opened the log; true";
    let output = world
        .run_with(&["--cap-add", "MKNOD"], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("wrote\n")?;
    let rule = ["--cap-add", "MKNOD", "--device-cgroup-rule", "c 1:11 w"];
    let script = "mknod /dev/log c 1 11 && (exec 3>/dev/log) && echo opened; \
        (exec 3<>/dev/log) 2>/dev/null && echo opened for reading; true";
    let output = world.run_with(&rule, ["sh", "-c", script]).output()?;
    output.success()?.stdout_is("opened\n")?;
    Ok(())
}

/// Says which of the powers of a privileged container there are.
const POWERS: &str = "mkdir -p /mnt && mount -t tmpfs none /mnt 2>/dev/null && echo mounts; \
    mkdir /sys/fs/cgroup/inner /sys/fs/cgroup/pids/inner 2>/dev/null; \
    rmdir /sys/fs/cgroup/inner 2>/dev/null && echo groups; \
    rmdir /sys/fs/cgroup/pids/inner 2>/dev/null && echo groups; \
    grep -q ' /proc/' /proc/self/mountinfo || echo nothing masked; \
    grep ' /sys ' /proc/self/mountinfo | grep -o ' rw,'; \
    [ -c /dev/kmsg ] && (exec 3>/dev/kmsg) && echo log; \
    for disk in $(find /dev -type b); do (exec 3<$disk) 2>/dev/null && echo disk && break; done";

fn a_privileged_container_may_do_everything(world: &World) -> Result<()> {
    let container = world.start(&["--privileged"], &["sleep", "1000"])?;
    let host = container.inspect()?["HostConfig"].take();
    same("Privileged", &host["Privileged"], &json!(true))?;
    let output = container.exec(&[], &["sh", "-c", POWERS]).output()?;
    let powers = output.success()?.stdout_text();
    let powers: Vec<&str> = powers.lines().map(str::trim).collect();
    let all = ["mounts", "groups", "nothing masked", "rw,", "log", "disk"];
    same("its powers", &powers, &all.to_vec())?;
    let script = STATUS.join(" ");
    let output = container.exec(&[], &["sh", "-c", &script]).output()?;
    let own = output.success()?.stdout_text();
    let first = status(world, &["--privileged"])?;
    same("exec and run", &own, &first)?;
    let set = field(&own, "CapEff")?;
    ensure!(set & SYS_ADMIN != 0 && set & MKNOD != 0, "{set:x}");
    same("NoNewPrivs", &field(&own, "NoNewPrivs")?, &0)?;
    same("Seccomp", &field(&own, "Seccomp")?, &0)?;
    let of_user = status(world, &["--privileged", "-u", "alice"])?;
    same("CapEff of a user", &field(&of_user, "CapEff")?, &0)?;
    // It still is a container: its own processes, and files.
    let output = container.exec(&[], &["cat", "/proc/1/comm"]).output()?;
    output.stdout_is("sleep\n")?;
    Ok(())
}

fn an_ordinary_container_is_not_privileged(world: &World) -> Result<()> {
    let output = world.sh(POWERS).output()?;
    output.stdout_is("")?;
    // Nor does every capability make it one.
    let output = world
        .run_with(
            &["--cap-add", "ALL"],
            [
                "sh",
                "-c",
                "ls /dev/kmsg 2>/dev/null; echo x >/proc/sys/kernel/hostname; true",
            ],
        )
        .output()?;
    output.success()?.stdout_is("")?.stderr_has("read-only")?;
    Ok(())
}

fn a_device_is_shown(world: &World) -> Result<()> {
    let look = ["stat", "-c", "%F %t:%T %u:%g %a", "/dev/log"];
    let container = world.start(&["--device", "/dev/kmsg:/dev/log:rw"], &["sleep", "1000"])?;
    let output = container.exec(&[], &look).output()?.success()?;
    let said = output.stdout_text();
    let (kind, owner) = said.split_at(said.find("1:b").context("another device")? + 3);
    same("kind", &kind, &"character special file 1:b")?;
    if !world.is_vm() {
        let host = fs::metadata("/dev/kmsg")?;
        let owned = format!(
            " {}:{} {:o}\n",
            host.uid(),
            host.gid(),
            host.mode() & 0o7777
        );
        same("owner and mode", &owner, &owned.as_str())?;
    }
    let devices = container.inspect()?["HostConfig"]["Devices"].take();
    let shown = json!([{
        "PathOnHost": "/dev/kmsg",
        "PathInContainer": "/dev/log",
        "CgroupPermissions": "rw",
    }]);
    same("Devices", &devices, &shown)?;
    let write = container.exec(&[], &["sh", "-c", "exec 3>/dev/log"]);
    write.output()?.success()?;
    Ok(())
}

fn a_folder_of_devices_is_shown(world: &World) -> Result<()> {
    let script = "cd /dev/all && [ -c kmsg ] && [ -c null ] && echo devices; \
        ls -d pts shm console fd 2>/dev/null; ls /dev/kmsg 2>/dev/null; exec 3>/dev/all/kmsg";
    let output = world
        .run_with(&["--device", "/dev:/dev/all"], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("devices\n")?;
    Ok(())
}

fn a_device_can_be_anywhere(world: &World) -> Result<()> {
    let script = "[ -c /opt/deep/log ] && [ -c /dev/a/b ] && exec 3>/opt/deep/log && ls -A /dev";
    let options = [
        "--device",
        "/dev/kmsg:/opt/deep/log",
        "--device",
        "/dev/kmsg:/dev/a/b",
    ];
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    let output = output.success()?.stdout_has("a\n")?;
    output.stdout_lacks("passing")?;
    Ok(())
}

fn a_device_is_used_only_as_allowed(world: &World) -> Result<()> {
    let script = "(exec 3>/dev/kmsg) 2>/dev/null && echo wrote; mknod /tmp/x c 1 11 2>/dev/null && echo made; true";
    let run = |options: &[&str]| -> Result<String> {
        let output = world.run_with(options, ["sh", "-c", script]).output()?;
        Ok(output.success()?.stdout_text())
    };
    same("w", &run(&["--device", "/dev/kmsg:w"])?, &"wrote\n".into())?;
    same("r", &run(&["--device", "/dev/kmsg:r"])?, &String::new())
}

fn devices_that_are_none_are_refused(world: &World) -> Result<()> {
    let container = world.container();
    for (options, said) in [
        (
            ["--device", "/dev/no-such-device"],
            "no such device /dev/no-such-device",
        ),
        (
            ["--device", "/proc/version"],
            "/proc/version is not a device",
        ),
        (["--device", "/proc/sys"], "/proc/sys is not a device"),
        (["--device", "kmsg"], "'kmsg' is not a device"),
        (["--device", "/dev/kmsg:/dev/x:rx"], "is not a device"),
        (["--device", "/dev/kmsg:/dev/../x"], "without '..'"),
        (
            ["--device-cgroup-rule", "c 1:x r"],
            "'c 1:x r' is not a rule",
        ),
    ] {
        let run = world.isolazi(["run", "--name", container.name()]);
        let run = run.args(options).args([&world.busybox(), "true"]);
        run.output()?.fails_with(125, said)?;
        ensure!(!container.is_listed()?, "{options:?} left a container");
    }
    let create = world.isolazi(["create", "--device-cgroup-rule", "c 1:11 r"]);
    let create = create.args(["--name", container.name(), &world.busybox()]);
    create.output()?.success()?;
    let rules: Value = container.inspect()?["HostConfig"]["DeviceCgroupRules"].take();
    same("rules", &rules, &json!(["c 1:11 r"]))
}
