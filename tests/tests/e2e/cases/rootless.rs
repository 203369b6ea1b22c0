//! Containers of an ordinary user, who has no rights on this machine.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same};
use isolazi_tests::ordinary::{FIRST, Ordinary, USER};
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        NativeOnly: [
            an_ordinary_user_is_root_in_containers,
            files_of_containers_belong_to_the_users_ids,
            without_further_ids_there_is_one,
            rootless_containers_outlive_their_command,
            commands_at_once_share_one_namespace,
            a_killed_keeper_is_replaced,
            the_keeper_ends_with_the_last,
            limits_need_a_cgroup_of_the_users,
            devices_are_the_hosts,
            files_go_in_and_out_of_rootless_containers,
            pasta_and_slirp_connect_to_the_host,
            forbidden_namespaces_are_explained,
        ],
    }
}

fn an_ordinary_user_is_root_in_containers(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    let whoami = user.isolazi(&["run", "--rootless", "--rm", &image, "whoami"]);
    whoami.output()?.success()?.stdout_is("root\n")?;
    // As with the flag, so without.
    let map = user.run(
        world,
        &[],
        "id -u; awk '{print $1, $2, $3}' /proc/self/uid_map",
    );
    map.output()?
        .success()?
        .stdout_is(&format!("0\n0 {USER} 1\n1 {FIRST} 65536\n"))?;
    let other = user.run(world, &["-u", "1000:1001"], "id -u; id -g");
    other.output()?.success()?.stdout_is("1000\n1001\n")?;
    let privileged = user.run(
        world,
        &["--privileged"],
        "mount -t tmpfs none /tmp && touch /tmp/x && ls /tmp; mknod /dev/x b 7 0 2>/dev/null || echo no",
    );
    privileged.output()?.success()?.stdout_is("x\nno\n")?;
    Ok(())
}

fn files_of_containers_belong_to_the_users_ids(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let script =
        "touch /mnt/roots /mnt/others && chown 33:34 /mnt/others && stat -c '%u %g' /mnt/others";
    let run = user.run(world, &["-v", "./shared:/mnt"], script);
    run.output()?.success()?.stdout_is("33 34\n")?;
    let owner = |name: &str| -> Result<_> {
        let found = fs::metadata(user.at().join("shared").join(name))?;
        Ok((found.uid(), found.gid()))
    };
    same("root's file", &owner("roots")?, &(USER, USER))?;
    same("another's", &owner("others")?, &(FIRST + 32, FIRST + 33))?;
    // A volume keeps them, and so does a committed image.
    let volume = user.run(
        world,
        &["-v", "data:/data"],
        "touch /data/f && chown 5 /data/f",
    );
    volume.output()?.success()?;
    let again = user.run(world, &["-v", "data:/data"], "stat -c %u /data/f");
    again.output()?.success()?.stdout_is("5\n")?;
    let image = world.busybox();
    let make = "touch /f && chown 7:8 /f && rm /bin/ash";
    user.isolazi(&["run", "--name", "made", &image, "sh", "-c", make])
        .output()?
        .success()?;
    user.isolazi(&["commit", "made", "mine:1"])
        .output()?
        .success()?;
    user.isolazi(&[
        "run",
        "--rm",
        "mine:1",
        "sh",
        "-c",
        "stat -c '%u %g' /f; ls /bin/ash 2>&1 | grep -c 'No such'",
    ])
    .output()?
    .success()?
    .stdout_is("7 8\n1\n")?;
    user.isolazi(&["rm", "made"]).output()?.success()?;
    Ok(())
}

fn without_further_ids_there_is_one(world: &World) -> Result<()> {
    let user = Ordinary::with_ids(world, "")?;
    let first = user.run(world, &[], "id -u; wc -l </proc/self/uid_map");
    let first = first.output()?.success()?.stdout_is("0\n1\n")?;
    first.stderr_has("/etc/subuid has no ids for tester")?;
    // It is said once, and what an image has of others is root's.
    let run = user.run(
        world,
        &[],
        "find /home ! -user 0 | wc -l; stat -c %u /home/alice",
    );
    let run = run.output()?.success()?.stdout_is("0\n0\n")?;
    ensure!(
        !run.stderr_text().contains("subuid"),
        "{}",
        run.stderr_text()
    );
    user.isolazi(&["run", "--rm", "hello"])
        .output()?
        .success()?;
    let other = user.run(world, &["-u", "1000"], "true");
    other
        .output()?
        .fails_with(125, "user 1000")?
        .has_one_complaint()?;
    Ok(())
}

fn rootless_containers_outlive_their_command(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    let script = "echo up; trap 'exit 3' TERM; while :; do sleep 0.1; done";
    user.isolazi(&["run", "-d", "--name", "web", &image, "sh", "-c", script])
        .output()?
        .success()?;
    user.isolazi(&["ps"])
        .output()?
        .success()?
        .stdout_has("web")?;
    let exec = user.isolazi(&[
        "exec",
        "-u",
        "5",
        "web",
        "sh",
        "-c",
        "id -u; cat /proc/1/comm",
    ]);
    exec.output()?.success()?.stdout_is("5\nsh\n")?;
    let own = user.isolazi(&["exec", "web", "readlink", "/proc/self/ns/user"]);
    let first = user.isolazi(&["exec", "web", "readlink", "/proc/1/ns/user"]);
    let own = own.output()?.success()?.stdout_text();
    first.output()?.success()?.stdout_is(&own)?;
    user.isolazi(&["top", "web"])
        .output()?
        .success()?
        .stdout_has("sleep 0.1")?;
    user.isolazi(&["logs", "web"])
        .output()?
        .success()?
        .stdout_is("up\n")?;
    user.isolazi(&["stop", "web"]).output()?.success()?;
    let state = user.isolazi(&["inspect", "--format", "{{.State.ExitCode}}", "web"]);
    state.output()?.success()?.stdout_is("3\n")?;
    user.isolazi(&["start", "web"]).output()?.success()?;
    user.isolazi(&["pause", "web"])
        .output()?
        .fails_with(1, "systemd-run --user")?;
    user.isolazi(&["rm", "-f", "web"]).output()?.success()?;
    user.isolazi(&["ps", "-aq"])
        .output()?
        .success()?
        .stdout_is("")?;
    Ok(())
}

fn commands_at_once_share_one_namespace(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    user.isolazi(&["pull", "-q", &world.busybox()])
        .output()?
        .success()?;
    let commands: Vec<_> = (0..5)
        .map(|_| {
            user.run(world, &[], "readlink /proc/self/ns/user; sleep 1")
                .spawn()
        })
        .collect::<Result<_>>()?;
    let mut seen = Vec::new();
    for command in commands {
        seen.push(command.wait()?.success()?.stdout_text());
    }
    seen.dedup();
    same("user namespaces", &seen.len(), &1)?;
    same("keepers", &user.keepers()?, &1)
}

fn a_killed_keeper_is_replaced(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    user.isolazi(&["run", "-d", "--name", "it", &image, "sleep", "1000"])
        .output()?
        .success()?;
    let (keeper, namespaces) = (user.keeper_pid()?, user.keeper()?["namespaces"].clone());
    let pid = rustix::process::Pid::from_raw(keeper).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    user.isolazi(&["exec", "it", "echo", "hi"])
        .output()?
        .success()?
        .stdout_is("hi\n")?;
    ensure!(user.keeper_pid()? != keeper, "the same keeper");
    same("the namespaces", &user.keeper()?["namespaces"], &namespaces)?;
    same("keepers", &user.keepers()?, &1)?;
    user.isolazi(&["cp", "it:/bin/busybox", "copy"])
        .output()?
        .success()?;
    user.isolazi(&["rm", "-f", "it"]).output()?.success()?;
    Ok(())
}

fn the_keeper_ends_with_the_last(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    user.isolazi(&["run", "-d", "--rm", "--name", "it", &image, "sleep", "1000"])
        .output()?
        .success()?;
    std::thread::sleep(Duration::from_secs(7));
    same("keepers while it runs", &user.keepers()?, &1)?;
    user.isolazi(&["rm", "-f", "it"]).output()?.success()?;
    let patience = Duration::from_secs(20);
    eventually(patience, "the keeper ends", || {
        Ok((user.keepers()? == 0).then_some(()))
    })?;
    // And the next command does not miss it.
    let run = user.run(world, &[], "echo again");
    run.output()?.success()?.stdout_is("again\n")?;
    // One whose data root is gone is of no more use.
    fs::remove_dir_all(user.at().join(".isolazi"))?;
    eventually(patience, "the next keeper ends", || {
        Ok((user.keepers()? == 0).then_some(()))
    })
}

fn limits_need_a_cgroup_of_the_users(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    user.run(world, &[], "true").output()?.success()?;
    let plain = user.run(world, &[], "echo fine").output()?.success()?;
    same("what is said", &plain.stderr_text(), &String::new())?;
    for (option, value) in [
        ("--memory", "64m"),
        ("--cpus", "0.5"),
        ("--cpuset-cpus", "0"),
    ] {
        let limited = user.run(world, &[option, value], "true").output()?;
        // Where the tests' own group is the user's, so is the limit.
        if !limited.is_success() {
            limited
                .fails_with(125, "systemd-run --user")?
                .stderr_has(option)?;
        }
    }
    Ok(())
}

fn devices_are_the_hosts(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c; \
                  (exec 3>/dev/full; echo >&3) 2>/dev/null || echo full; stat -c %t:%T /dev/mine";
    let run = user.run(world, &["--device", "/dev/zero:/dev/mine"], script);
    run.output()?.success()?.stdout_is("3\nfull\n1:5\n")?;
    Ok(())
}

fn files_go_in_and_out_of_rootless_containers(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    user.isolazi(&["run", "-d", "--name", "it", &image, "sleep", "1000"])
        .output()?
        .success()?;
    fs::write(user.at().join("in"), "words\n")?;
    user.isolazi(&["cp", "in", "it:/tmp/in"])
        .output()?
        .success()?;
    let script = "cat /tmp/in && stat -c %u /tmp/in && chown 9 /tmp/in";
    user.isolazi(&["exec", "it", "sh", "-c", script])
        .output()?
        .success()?
        .stdout_is("words\n0\n")?;
    user.isolazi(&["cp", "it:/tmp/in", "out"])
        .output()?
        .success()?;
    same(
        "the copy",
        &fs::read_to_string(user.at().join("out"))?,
        &"words\n".to_owned(),
    )?;
    user.isolazi(&["diff", "it"])
        .output()?
        .success()?
        .stdout_has("A /tmp/in")?;
    user.isolazi(&["export", "-o", "root.tar", "it"])
        .output()?
        .success()?;
    let listed = isolazi_tests::command::tool(
        "tar",
        [
            OsString::from("--numeric-owner"),
            "-tvf".into(),
            user.at().join("root.tar").into(),
            "tmp/in".into(),
        ],
    )?;
    ensure!(listed.contains(" 9/0 "), "{listed}");
    user.isolazi(&["rm", "-f", "it"]).output()?.success()?;
    Ok(())
}

/// A network with one host besides this one, 198.51.100.7, that answers on port 80.
const NETWORK: &str = "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d1 up; ip addr add 192.0.2.2/24 dev d0; \
    ip link set d0 up; ip route add default via 192.0.2.1; ip addr add 198.51.100.7/32 dev lo; \
    timeout 50 busybox nc -ll -p 80 -e echo hi >/dev/null 2>&1 & ";

/// What a user has who may use tunnels.
const TUNNEL: &str =
    "mknod -m 666 \"$0/etc/tun\" c 10 200 && mount --bind \"$0/etc/tun\" /dev/net/tun || exit 98; ";

fn pasta_and_slirp_connect_to_the_host(world: &World) -> Result<()> {
    let programs = ["pasta", "slirp4netns"].map(isolazi_tests::fixture::find);
    if !Path::new("/dev/net/tun").exists() || programs.iter().any(Option::is_none) {
        eprintln!("skipped: needs pasta, slirp4netns and /dev/net/tun");
        return Ok(());
    }
    for (hidden, process) in [("slirp4netns", "pasta"), ("pasta", "slirp4netns")] {
        let user = Ordinary::new(world)?;
        user.isolazi(&["pull", "-q", &world.busybox()])
            .output()?
            .success()?;
        let hide = isolazi_tests::fixture::find(hidden).context("a program")?;
        let hide = hide.canonicalize()?;
        // The first command's network is the one that the namespace is connected to.
        eventually(Duration::from_secs(20), "the keeper ends", || {
            Ok((user.keepers()? == 0).then_some(()))
        })?;
        let before = format!(
            "{TUNNEL}mount --bind /dev/null {}; {NETWORK}",
            hide.display()
        );
        let image = world.busybox();
        let started = user
            .prepared(
                &before,
                &[
                    "run", "-d", "--name", "it", &image, "httpd", "-f", "-h", "/etc",
                ],
            )
            .through("unshare", &["--net"])
            .output()?
            .success()?;
        same("what is said", &started.stderr_text(), &String::new())?;
        let network = &user.keeper()?["network"]["pid"];
        let network = network.as_i64().context("the network's process")?;
        let command = fs::read_to_string(format!("/proc/{network}/cmdline"))?;
        ensure!(command.contains(process), "{command} instead of {process}");
        let call = "timeout 5 nc 198.51.100.7 80 | grep -m 1 hi";
        let answer = user.isolazi(&["exec", "it", "sh", "-c", call]);
        answer.output()?.success()?.stdout_is("hi\n")?;
        user.isolazi(&["rm", "-f", "it"]).output()?.success()?;
        eventually(Duration::from_secs(20), "it ends with the keeper", || {
            let gone = !Path::new(&format!("/proc/{network}")).exists();
            Ok((gone && user.keepers()? == 0).then_some(()))
        })?;
    }
    Ok(())
}

fn forbidden_namespaces_are_explained(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    user.isolazi(&["pull", "-q", &image]).output()?.success()?;
    eventually(Duration::from_secs(20), "the keeper ends", || {
        Ok((user.keepers()? == 0).then_some(()))
    })?;
    // The kernel allows none to whoever sees only a part of the tree of folders.
    fs::create_dir(user.at().join("root"))?;
    let confine = "mount --rbind / \"$0/root\" && exec chroot \"$0/root\" \"$@\"";
    let at = user.at().to_string_lossy();
    let refused = Invocation::new(&user.program, Duration::from_secs(60))
        .args(["run", "--rm", &image, "true"])
        .env("HOME", user.at())
        .env_remove("ISOLAZI_HOME")
        .env_remove("ISOLAZI_VM")
        .through(
            "setpriv",
            &["--reuid=64321", "--regid=64321", "--clear-groups"],
        )
        .through("unshare", &["--mount", "sh", "-c", confine, &at])
        .output()?;
    refused
        .fails_with(125, "containers without root need user namespaces")?
        .stderr_has("--vm")?
        .has_one_complaint()?;
    Ok(())
}
