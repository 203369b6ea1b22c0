//! What `run` may be asked for beyond a command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::handmade::{Image, Layer, architecture, digest, gzip};
use isolazi_tests::stub::Stub;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            variables_come_from_files,
            labels_come_from_everywhere,
            options_show_in_inspect,
            the_stop_signal_and_timeout_can_be_chosen,
            a_cidfile_holds_the_id,
            pulling_happens_when_asked_for,
            a_read_only_root_is_read_only,
            hosts_can_be_added,
            names_are_resolved_as_asked,
            ulimits_apply,
            dev_shm_has_a_size,
            groups_can_be_added,
            kernel_parameters_can_be_set,
            the_killers_score_can_be_set,
            the_limit_of_processes_can_be_set,
            memory_file_systems_can_be_mounted,
            options_that_make_no_sense_are_refused,
        ],
    }
}

fn variables_come_from_files(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("vars");
    fs::write(
        &file,
        "# names\nA=1\nB=from file, and \"more\"\n\nPASSED\nABSENT\nC=file\n",
    )?;
    let file = file.display().to_string();
    let options = ["--env-file", &file, "-e", "C=option"];
    let output = world
        .run_with(
            &options,
            [
                "sh",
                "-c",
                "echo $A; echo $B; echo $PASSED-${ABSENT-unset}; echo $C",
            ],
        )
        .env("PASSED", "on")
        .env_remove("ABSENT")
        .output()?;
    output
        .success()?
        .stdout_is("1\nfrom file, and \"more\"\non-unset\noption\n")?;
    let container = world.start(&[], &["sleep", "1000"])?;
    let output = container.exec(&["--env-file", &file], &["sh", "-c", "echo $A"]);
    output.output()?.success()?.stdout_is("1\n")?;
    fs::write(folder.path().join("bad"), "A=1\nB C=2\n")?;
    let bad = folder.path().join("bad").display().to_string();
    let output = world.run_with(&["--env-file", &bad], ["true"]).output()?;
    output.fails_with(125, "line 2")?;
    Ok(())
}

/// A handmade image with a label and a volume, whose `/bin/sh` is busybox.
fn described_image() -> Result<Image> {
    let busybox = fs::read("/bin/busybox")?;
    let layer = Layer::default()
        .folder("bin")?
        .program("bin/busybox", &busybox)?
        .symlink("bin/sh", "busybox")?
        .tar()?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Cmd": ["/bin/sh", "-c", "exit 3"],
            "Labels": { "from": "image", "only": "image" },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    Ok(Image::with_config(
        config.to_string().into_bytes(),
        &[gzip(&layer)?],
    ))
}

fn labels_come_from_everywhere(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("labels");
    fs::write(&file, "# labels\nfile=yes\nover=file\n")?;
    let stub = Stub::start()?;
    let image = stub.serve("described", &described_image()?);
    let container = world.container();
    let output = world
        .isolazi(["run", "--name", container.name(), "--label-file"])
        .args([file.display().to_string()])
        .args([
            "-l",
            "over=option",
            "--label",
            "from=user",
            "-l",
            "bare",
            "--annotation",
            "a=b",
        ])
        .args([image])
        .output()?;
    output.code(3)?;
    let described = container.inspect()?;
    let labels = json!({
        "file": "yes", "over": "option", "from": "user", "only": "image", "bare": "",
    });
    same("labels", &described["Config"]["Labels"], &labels)?;
    same(
        "annotations",
        &described["HostConfig"]["Annotations"],
        &json!({ "a": "b" }),
    )
}

fn options_show_in_inspect(world: &World) -> Result<()> {
    let options = [
        "--stop-signal",
        "SIGQUIT",
        "--stop-timeout",
        "7",
        "--read-only",
        "--add-host",
        "db:192.0.2.7",
        "--dns",
        "192.0.2.53",
        "--ulimit",
        "core=0",
        "--shm-size",
        "1m",
        "--group-add",
        "60",
        "--init",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--oom-score-adj",
        "100",
        "--pids-limit",
        "-1",
        "--tmpfs",
        "/run:size=1m",
    ];
    let container = world.start(&options, &["sleep", "1000"])?;
    let described = container.inspect()?;
    let (config, host) = (&described["Config"], &described["HostConfig"]);
    same("signal", &config["StopSignal"], &json!("SIGQUIT"))?;
    same("timeout", &config["StopTimeout"], &json!(7))?;
    for (field, value) in [
        ("ReadonlyRootfs", json!(true)),
        ("ExtraHosts", json!(["db:192.0.2.7"])),
        ("Dns", json!(["192.0.2.53"])),
        ("Ulimits", json!([{ "Name": "core", "Soft": 0, "Hard": 0 }])),
        ("ShmSize", json!(1 << 20)),
        ("GroupAdd", json!(["60"])),
        ("Init", json!(true)),
        ("Sysctls", json!({ "net.ipv4.ip_forward": "1" })),
        ("OomScoreAdj", json!(100)),
        ("PidsLimit", json!(-1)),
        ("Tmpfs", json!({ "/run": "size=1m" })),
    ] {
        same(field, &host[field], &value)?;
    }
    Ok(())
}

fn the_stop_signal_and_timeout_can_be_chosen(world: &World) -> Result<()> {
    let script = "trap 'echo got USR1; exit 7' USR1; trap 'echo got TERM; exit 8' TERM; echo ready; while :; do sleep 0.1; done";
    let container = world.start(&["--stop-signal", "USR1"], &["sh", "-c", script])?;
    container.wait_log("ready")?;
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    let described = container.wait_status("exited")?;
    same("status", &described["State"]["ExitCode"], &json!(7))?;
    let stubborn = [
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    ];
    let container = world.start(&["--stop-timeout", "0"], &stubborn)?;
    container.wait_log("ready")?;
    let before = Instant::now();
    world
        .isolazi(["stop", container.name()])
        .output()?
        .success()?;
    let took = before.elapsed();
    ensure!(took < Duration::from_secs(8), "stopping took {took:?}");
    let described = container.wait_status("exited")?;
    same("status", &described["State"]["ExitCode"], &json!(137))
}

fn a_cidfile_holds_the_id(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("cid");
    let path = file.display().to_string();
    let container = world.start(&["--cidfile", &path], &["true"])?;
    let id = container.inspect()?["Id"].clone();
    same("id", &json!(fs::read_to_string(&file)?), &id)?;
    let output = world.run_with(&["--cidfile", &path], ["true"]).output()?;
    output.fails_with(125, "cid")?;
    same("id", &json!(fs::read_to_string(&file)?), &id)?;
    // Nothing is left of a container that could not be made.
    let other = folder.path().join("other");
    let path = other.display().to_string();
    let output = world
        .run_with(&["--cidfile", &path, "--name", container.name()], ["true"])
        .output()?;
    output.fails_with(125, "taken")?;
    ensure!(!other.exists(), "the file is still there");
    Ok(())
}

fn pulling_happens_when_asked_for(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let image = stub.serve("policy", &described_image()?);
    let run = |when: &str| {
        world
            .isolazi(["run", "--rm", "--pull", when, &image])
            .output()
    };
    run("never")?.fails_with(125, "policy")?;
    run("missing")?.code(3)?;
    run("never")?.code(3)?;
    run("always")?.code(3)?;
    drop(stub);
    run("missing")?.code(3)?;
    run("always")?.fails_with(125, "cannot connect to registry")?;
    Ok(())
}

fn a_read_only_root_is_read_only(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let volume = format!("{}:/mnt", folder.path().display());
    let script = "pwd; for f in /new /etc/hosts /data/file /root/x /sys/x; do (echo x >>$f) 2>/dev/null && echo wrote $f; done; for f in /dev/shm/x /dev/x /mnt/x /tmp/x; do echo x >$f || echo refused $f; done; echo x >/dev/null && echo fine";
    let options = [
        "--read-only",
        "-v",
        &volume,
        "--tmpfs",
        "/tmp",
        "-w",
        "/made/for/it",
    ];
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    output.success()?.stdout_is("/made/for/it\nfine\n")?;
    ensure!(
        folder.path().join("x").exists(),
        "nothing was written to the volume"
    );
    Ok(())
}

fn hosts_can_be_added(world: &World) -> Result<()> {
    let options = [
        "--add-host",
        "db:192.0.2.7",
        "--add-host",
        "six=2001:db8::1",
    ];
    let output = world.run_with(&options, ["cat", "/etc/hosts"]).output()?;
    output
        .success()?
        .stdout_has("127.0.0.1\tlocalhost\n")?
        .stdout_has("192.0.2.7\tdb\n2001:db8::1\tsix\n")?;
    let output = world
        .run_with(&["--add-host", "db:nowhere"], ["true"])
        .output()?;
    output.fails_with(125, "'db:nowhere' is not a host to add")?;
    Ok(())
}

fn names_are_resolved_as_asked(world: &World) -> Result<()> {
    let options = [
        "--dns",
        "192.0.2.53",
        "--dns",
        "2001:db8::53",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:2",
        "--dns-opt",
        "timeout:1",
    ];
    let output = world
        .run_with(&options, ["cat", "/etc/resolv.conf"])
        .output()?;
    let text = output.success()?.stdout_text();
    let said: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let wanted = [
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
        "search example.org",
        "options ndots:2 timeout:1",
    ];
    for line in wanted {
        ensure!(said.contains(&line), "no {line:?} in {text:?}");
    }
    let servers = said.iter().filter(|line| line.starts_with("nameserver"));
    same("servers", &servers.count(), &2)
}

fn ulimits_apply(world: &World) -> Result<()> {
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let options = ["--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    output.success()?.stdout_is("100\n200\n0\n0\n")?;
    let container = world.start(&options, &["sleep", "1000"])?;
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    output.success()?.stdout_is("100\n200\n0\n0\n")?;
    // More than any kernel allows is said, and does no further harm.
    let options = ["--ulimit", "nofile=99999999999"];
    let output = world.run_with(&options, ["echo", "ran"]).output()?;
    let output = output.success()?.stdout_is("ran\n")?;
    let said = output.stderr_text();
    ensure!(
        said.contains("nofile") && said.contains("does not apply"),
        "{said}"
    );
    Ok(())
}

fn dev_shm_has_a_size(world: &World) -> Result<()> {
    let script = "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
    for (options, size) in [(&[][..], "65536\n"), (&["--shm-size", "1m"], "1024\n")] {
        let output = world.run_with(options, ["sh", "-c", script]).output()?;
        output.success()?.stdout_is(size)?;
    }
    Ok(())
}

fn groups_can_be_added(world: &World) -> Result<()> {
    let options = ["--group-add", "games", "--group-add", "4711", "-u", "65534"];
    let output = world.run_with(&options, ["id", "-G"]).output()?;
    output.success()?.stdout_is("65534 60 4711\n")?;
    let container = world.start(&options, &["sleep", "1000"])?;
    let output = container.exec(&["-u", "nobody"], &["id", "-G"]).output()?;
    output.success()?.stdout_is("65534 60 4711\n")?;
    let output = world
        .run_with(&["--group-add", "nope"], ["true"])
        .output()?;
    output.fails_with(125, "nope")?;
    Ok(())
}

fn kernel_parameters_can_be_set(world: &World) -> Result<()> {
    let options = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.shmmax=12345",
        "--sysctl",
        "kernel.domainname=example.org",
    ];
    let files = [
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/shmmax",
        "/proc/sys/kernel/domainname",
    ];
    let output = world.run_with(&options, files).output()?;
    output.success()?.stdout_is("1\n12345\nexample.org\n")?;
    for (asked, named) in [
        ("kernel.core_pattern=|/x", "kernel.core_pattern"),
        ("vm.swappiness=1", "vm.swappiness"),
        ("net.no.such=1", "net.no.such"),
        ("net.ipv4.ip_forward=much", "net.ipv4.ip_forward"),
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
    ] {
        let output = world.run_with(&["--sysctl", asked], ["true"]).output()?;
        output.fails_with(125, named)?;
    }
    Ok(())
}

fn the_killers_score_can_be_set(world: &World) -> Result<()> {
    let score = ["cat", "/proc/self/oom_score_adj"];
    let output = world
        .run_with(&["--oom-score-adj", "500"], score)
        .output()?;
    output.success()?.stdout_is("500\n")?;
    // Where this machine does not allow it, it says so.
    let output = world
        .run_with(&["--oom-score-adj", "-500"], score)
        .output()?;
    let output = output.success()?;
    let applies = output.stdout_text() == "-500\n";
    ensure!(
        applies || output.stderr_text().contains("oom_score_adj"),
        "{output:?}"
    );
    let output = world
        .run_with(&["--oom-score-adj", "1001"], score)
        .output()?;
    output.fails_with(125, "1001")?;
    Ok(())
}

fn the_limit_of_processes_can_be_set(world: &World) -> Result<()> {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait; true";
    let output = world
        .run_with(&["--pids-limit", "5"], ["sh", "-c", script])
        .output()?;
    ensure!(output.stderr_text().contains("fork"), "{output:?}");
    let output = world
        .run_with(&["--pids-limit", "-1"], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("")?;
    Ok(())
}

fn memory_file_systems_can_be_mounted(world: &World) -> Result<()> {
    let script = "grep ' /one ' /proc/mounts | cut -d ' ' -f 3,4; stat -c %a /one /two; touch /one/x; touch /two/x 2>/dev/null || echo refused; df -k /two | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
    let options = [
        "--tmpfs",
        "/one",
        "--mount",
        "type=tmpfs,dst=/two,tmpfs-size=1m,tmpfs-mode=700,readonly",
    ];
    let output = world.run_with(&options, ["sh", "-c", script]).output()?;
    let text = output.success()?.stdout_text();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    ensure!(first.starts_with("tmpfs rw,nosuid,nodev,noexec"), "{text}");
    same(
        "rest",
        &lines.collect::<Vec<_>>(),
        &vec!["1777", "700", "refused", "1024"],
    )?;
    // A program runs only where that was asked for.
    let script = "cp /bin/busybox /t/true && /t/true true && echo ran";
    let output = world
        .run_with(&["--tmpfs", "/t:exec,mode=755"], ["sh", "-c", script])
        .output()?;
    output.success()?.stdout_is("ran\n")?;
    let output = world
        .run_with(&["--tmpfs", "/t"], ["sh", "-c", script])
        .output()?;
    ensure!(!output.is_success(), "{output:?}");
    Ok(())
}

fn options_that_make_no_sense_are_refused(world: &World) -> Result<()> {
    for (option, value, named) in [
        ("--ulimit", "files=1", "files"),
        ("--ulimit", "nofile=2:1", "nofile"),
        ("--shm-size", "big", "big"),
        ("--add-host", "db", "db"),
        ("--dns", "example.org", "example.org"),
        ("--label", "=x", "=x"),
        ("--stop-signal", "SIGNOPE", "SIGNOPE"),
        ("--tmpfs", "relative", "relative"),
        ("--tmpfs", "/x:size=big", "size=big"),
        ("--mount", "type=nfs,dst=/x", "type=nfs"),
        ("--mount", "type=bind,dst=/x", "source"),
        ("--env-file", "/no/such/file", "/no/such/file"),
        ("--label-file", "/no/such/file", "/no/such/file"),
    ] {
        let output = world.run_with(&[option, value], ["true"]).output()?;
        output.fails_with(125, named)?;
    }
    let twice = ["--tmpfs", "/x", "--tmpfs", "/x/"];
    let output = world.run_with(&twice, ["true"]).output()?;
    output.fails_with(125, "duplicate mount point")?;
    Ok(())
}
