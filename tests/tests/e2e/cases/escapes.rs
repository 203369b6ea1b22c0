//! What somebody tries who is root in an ordinary container and wants out of
//! it, and what an image tries that was made for that. Each ends where it should.

use std::fs;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::fixture::find;
use isolazi_tests::handmade::{Image, Layer, architecture};
use isolazi_tests::stub::Stub;
use isolazi_tests::{Case, World};
use serde_json::{Value, json};
use tar::EntryType;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            what_is_mounted_stays_as_it_is,
            namespaces_cannot_be_made_or_left,
            the_kernel_takes_no_settings,
            groups_cannot_be_changed,
            the_root_has_no_outside,
            processes_of_others_are_out_of_reach,
            a_working_directory_is_no_way_out,
            an_image_cannot_exchange_devices,
            volumes_of_an_image_do_not_climb,
            links_of_an_image_stay_inside,
            a_user_file_that_is_none_hangs_nobody,
        ],
        NativeOnly: [
            the_hosts_name_is_not_a_containers,
        ],
    }
}

/// Each attempt that succeeds says so, and none does. One that is none, as its
/// program is missing, says so, too.
fn nothing_works(world: &World, attempts: &[&str]) -> Result<()> {
    let tries: Vec<String> = attempts
        .iter()
        .map(|attempt| {
            format!(
                "({attempt}) >/dev/null 2>&1; case $? in 0) echo \"worked: {attempt}\";; 127) echo \"missing: {attempt}\";; esac"
            )
        })
        .collect();
    let script = tries.join("; ");
    world.sh(&script).output()?.success()?.stdout_is("")?;
    Ok(())
}

fn what_is_mounted_stays_as_it_is(world: &World) -> Result<()> {
    nothing_works(
        world,
        &[
            "mount -t proc proc /tmp",
            "mount -t tmpfs none /proc/sys",
            "mount --bind / /tmp",
            "mount -o remount,rw /sys",
            "mount -o remount,bind,rw /proc/sys",
            "mount -o remount,dev /",
            "mount --make-shared /",
            "umount /proc/kcore",
            "umount -l /proc/sys",
            "umount /proc/acpi",
            "umount /sys/firmware",
            "umount /etc/hosts",
            "pivot_root / /tmp",
        ],
    )
}

fn namespaces_cannot_be_made_or_left(world: &World) -> Result<()> {
    nothing_works(
        world,
        &[
            "unshare -U true",
            "unshare -U -r true",
            "unshare -m true",
            "unshare -n true",
            "unshare -p -f true",
            "unshare -u true",
            "unshare -i true",
            "nsenter -t 1 -m true",
            "nsenter --mount=/proc/1/ns/mnt true",
        ],
    )
}

fn the_kernel_takes_no_settings(world: &World) -> Result<()> {
    nothing_works(
        world,
        &[
            "echo b >/proc/sysrq-trigger",
            "echo '|/tmp/x' >/proc/sys/kernel/core_pattern",
            "echo /tmp/x >/proc/sys/kernel/modprobe",
            "echo 1 >/proc/sys/fs/suid_dumpable",
            "echo 1 >/proc/sys/net/ipv4/ip_forward",
            "echo /tmp/x >/sys/kernel/uevent_helper",
            "echo mem >/sys/power/state",
            "echo 1 >/sys/kernel/mm/ksm/run",
            "echo -1000 >/proc/self/oom_score_adj",
            "hostname other",
            "date -s 2000-01-01; [ $(date +%Y) = 2000 ]",
            "dmesg -c",
            "insmod /tmp/x.ko",
            "reboot -f",
            "swapon /tmp/x",
        ],
    )?;
    // And what the kernel keeps for itself is not told.
    let script = "head -c 1 /proc/kcore | wc -c; [ -r /proc/kallsyms ] && grep -cv '^0* ' /proc/kallsyms; true";
    let output = world.sh(script).output()?.success()?;
    let said = output.stdout_text();
    let mut lines = said.lines();
    same("bytes of kcore", &lines.next(), &Some("0"))?;
    ensure!(
        lines.next().is_none_or(|addresses| addresses == "0"),
        "{}",
        output.complaint("addresses of the kernel")
    );
    Ok(())
}

fn groups_cannot_be_changed(world: &World) -> Result<()> {
    // release_agent, of cgroups v1, is a program that the machine runs as root.
    let script = "cd /sys/fs/cgroup && for f in release_agent notify_on_release cgroup.procs memory.max pids.max devices.allow memory.limit_in_bytes; do \
        for g in . *; do [ ! -e $g/$f ] || { (echo 1 >$g/$f) 2>/dev/null && echo wrote $g/$f; }; done; done; \
        for g in . *; do mkdir $g/made 2>/dev/null && echo made $g/made; done; true";
    world.sh(script).output()?.success()?.stdout_is("")?;
    nothing_works(
        world,
        &[
            "mount -t cgroup -o memory none /tmp",
            "mount -t cgroup2 none /tmp",
        ],
    )
}

fn the_root_has_no_outside(world: &World) -> Result<()> {
    let script = "for p in / /.. /proc/1/root /proc/1/root/.. /proc/self/cwd/../../.. /proc/thread-self/root; do stat -Lc %d:%i $p; done | sort -u | wc -l; \
        mkdir -p /jail/bin /jail/proc && cp /bin/busybox /jail/bin/sh && \
        chroot /jail /bin/sh -c 'cd ../../../../.. && pwd'; \
        cat /proc/1/root/etc/hostname | wc -l; ls /proc/1/root/proc/1/root/data";
    let output = world.sh(script).output()?.success()?;
    output.stdout_is("1\n/\n1\nfile\n")?;
    Ok(())
}

fn processes_of_others_are_out_of_reach(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    // Another one is not among its processes, and exec adds nothing of ours.
    let output = container.exec(&[], &["sh", "-c", "cat /proc/[0-9]*/comm"]);
    let output = output.output()?.success()?;
    let said = output.stdout_text();
    let own = |name: &str| ["sleep", "sh", "cat"].contains(&name);
    ensure!(
        said.starts_with("sleep\n") && said.lines().all(own),
        "{}",
        output.complaint("processes of others")
    );
    let script = "ls -l /proc/self/exe /proc/1/exe | grep -v busybox; cat /proc/net/unix | wc -l; ls /dev/pts";
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    output.success()?.stdout_is("1\nptmx\n")?;
    nothing_works(
        world,
        &[
            "cat /proc/1/mem",
            "cat /proc/1/environ >/proc/1/mem",
            "echo x >/proc/1/attr/current",
        ],
    )
}

fn a_working_directory_is_no_way_out(world: &World) -> Result<()> {
    // A descriptor of the launcher's that leads to the machine (CVE-2024-21626).
    for number in 3..12 {
        for path in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/thread-self/fd/{number}"),
        ] {
            let output = world.run_with(&["-w", &path], ["pwd"]).output()?;
            output.fails_with(125, &path)?;
        }
    }
    let container = world.start(&[], &["sleep", "1000"])?;
    for path in [
        "/proc/self/fd/7",
        "/proc/self/fd/8/../../..",
        "/proc/1/root",
    ] {
        let output = container.exec(&["-w", path], &["pwd"]).output()?;
        ensure!(!output.is_success(), "{}", output.complaint("it got there"));
    }
    let stub = Stub::start()?;
    let config = json!({ "WorkingDir": "/proc/self/fd/8", "Cmd": ["/bin/sh", "-c", "pwd"] });
    let image = image(Layer::default(), &config)?;
    let output = world
        .isolazi(["run", "--rm", &stub.serve("leaking", &image)])
        .output()?;
    output.fails_with(125, "/proc/self/fd/8")?;
    Ok(())
}

/// An image with a shell, and whatever else `layer` has.
fn image(layer: Layer, config: &Value) -> Result<Image> {
    let busybox = fs::read(find("busybox").context("busybox is not installed")?)?;
    let layer = layer.folder("bin/")?.program("bin/sh", &busybox)?.tar()?;
    let compressed = isolazi_tests::handmade::gzip(&layer)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [isolazi_tests::handmade::digest(&layer)] },
    });
    Ok(Image::with_config(
        config.to_string().into_bytes(),
        &[compressed],
    ))
}

fn an_image_cannot_exchange_devices(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let layer = Layer::default()
        .folder("dev/")?
        .symlink("dev/null", "/etc/shadow")?
        .file("dev/zero", "no zeros")?
        .folder("proc/")?
        .file("proc/kcore", "bait")?
        .folder("etc/")?
        .file("etc/shadow", "secret")?;
    let script = "/bin/sh -c 'echo x >/dev/null'; read line </dev/null; echo \"[$line]\"; \
        read line </proc/kcore; echo \"[$line]\"; read line </etc/shadow; echo \"[$line]\"; test -c /dev/zero && echo zero";
    let config = json!({ "Cmd": ["/bin/sh", "-c", script] });
    let reference = stub.serve("exchanged", &image(layer, &config)?);
    let output = world.isolazi(["run", "--rm", &reference]).output()?;
    output.success()?.stdout_is("[]\n[]\n[secret]\nzero\n")?;
    Ok(())
}

fn volumes_of_an_image_do_not_climb(world: &World) -> Result<()> {
    let outside = world.temp()?;
    let stub = Stub::start()?;
    let there = outside.path().display();
    for (number, volume) in [
        format!("/../../../../../../../..{there}/mark"),
        format!("/data/../../../../../../..{there}/mark"),
        "..".to_owned(),
        "relative".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let mut config = json!({ "Cmd": ["/bin/sh", "-c", "echo x >$0/file", volume] });
        config["Volumes"] = json!({ volume.as_str(): {} });
        let layer = Layer::default().folder("data/")?;
        let reference = stub.serve(&format!("climbing-{number}"), &image(layer, &config)?);
        let output = world.isolazi(["run", "--rm", &reference]).output()?;
        output.code(125)?.has_one_complaint()?;
    }
    // A link on the way leads to a place in the container.
    let layer = Layer::default().symlink("data", &format!("../../../../../../..{there}"))?;
    let config = json!({
        "Cmd": ["/bin/sh", "-c", "echo x >/data/mark/file; echo wrote"],
        "Volumes": { "/data/mark": {} },
    });
    let reference = stub.serve("linked-volume", &image(layer, &config)?);
    let output = world.isolazi(["run", "--rm", &reference]).output()?;
    output.success()?.stdout_is("wrote\n")?;
    let left: Vec<_> = fs::read_dir(outside.path())?.collect();
    ensure!(left.is_empty(), "outside there is {left:?}");
    Ok(())
}

fn links_of_an_image_stay_inside(world: &World) -> Result<()> {
    let (outside, shown) = (world.temp()?, world.temp()?);
    let there = outside.path().display().to_string();
    let up = format!("../../../../../../../..{there}");
    let stub = Stub::start()?;
    let layer = Layer::default()
        .folder("etc/")?
        .symlink("etc/hosts", &format!("{there}/hosts"))?
        .symlink("etc/resolv.conf", &format!("{up}/resolv"))?
        .symlink("mnt", &up)?
        .symlink("srv", &up)?;
    let script = "echo here; read line </etc/hosts && echo hosts; pwd";
    let config = json!({ "Cmd": ["/bin/sh", "-c", script], "WorkingDir": "/srv/deep" });
    let reference = stub.serve("links", &image(layer, &config)?);
    let volume = format!("{}:/mnt/volume", shown.path().display());
    let device = "/dev/null:/mnt/device";
    let output = world
        .isolazi(["run", "--rm", "-v", &volume, "--tmpfs", "/mnt/tmpfs"])
        .args(["--device", device, &reference])
        .output()?;
    let said = format!("here\nhosts\n{there}/deep\n");
    output.success()?.stdout_is(&said)?;
    let left: Vec<_> = fs::read_dir(outside.path())?.collect();
    ensure!(left.is_empty(), "outside there is {left:?}");
    Ok(())
}

fn a_user_file_that_is_none_hangs_nobody(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    for (name, kind, target) in [
        ("pipe", EntryType::Fifo, ""),
        ("link", EntryType::Symlink, "/dev/zero"),
        ("folder", EntryType::Directory, ""),
    ] {
        let passwd = match kind {
            EntryType::Directory => "etc/passwd/",
            _ => "etc/passwd",
        };
        let layer = Layer::default()
            .folder("etc/")?
            .entry(kind, passwd, target, b"")?;
        let config = json!({ "Cmd": ["/bin/sh", "-c", "true"], "User": "alice" });
        let reference = stub.serve(&format!("users-{name}"), &image(layer, &config)?);
        let output = world.isolazi(["run", "--rm", &reference]).output()?;
        output.code(125)?.has_one_complaint()?;
    }
    Ok(())
}

fn the_hosts_name_is_not_a_containers(world: &World) -> Result<()> {
    let name = || fs::read_to_string("/proc/sys/kernel/hostname");
    let before = name()?;
    let output = world
        .run_with(
            &["--privileged", "--hostname", "inner"],
            ["sh", "-c", "hostname changed && hostname"],
        )
        .output()?;
    output.success()?.stdout_is("changed\n")?;
    same("the host's name", &name()?, &before)
}
