//! Containers whose root is nobody's: `--rootless`, `--userns` and maps of ids, where
//! the engine itself is root's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::json;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            a_rootless_container_has_a_root_without_power,
            maps_are_as_asked,
            containers_share_no_ids,
            layers_and_volumes_are_everybodys_own,
            shared_folders_are_used_as_by_root,
            processes_of_exec_are_in_the_user_namespace,
            terminals_and_streams_belong_to_the_mapped_user,
            files_are_copied_with_the_containers_owners,
            a_user_namespace_goes_with_every_option,
            users_are_shown_by_inspect,
            contradictory_users_are_refused,
        ],
    }
}

const MAP: &str = "awk '{print $1, $2, $3}' /proc/self/uid_map";

fn a_rootless_container_has_a_root_without_power(world: &World) -> Result<()> {
    let whoami = world.run_with(&["--rootless"], ["whoami"]);
    whoami.output()?.success()?.stdout_is("root\n")?;
    let map = world.run_with(&["--rootless"], ["sh", "-c", MAP]);
    let map = map.output()?.success()?.stdout_text();
    let fields: Vec<u32> = map
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(matches!(fields[..], [0, host, 65536] if host > 0), "{map}");
    let script = "cat /proc/sys/kernel/hostname >/dev/null; mount -t tmpfs none /tmp 2>&1 | head -1; \
                  stat -c %u /proc/1 / /etc/hosts /dev/pts; echo x >/y && stat -c %u /y";
    let run = world.run_with(&["--rootless"], ["sh", "-c", script]);
    run.output()?
        .success()?
        .stdout_has("denied")?
        .stdout_has("0\n0\n0\n0\n0\n")?;
    Ok(())
}

fn maps_are_as_asked(world: &World) -> Result<()> {
    let options = [
        "--rootless",
        "--uid-map",
        "0:1000:1",
        "--gid-map",
        "0:1001:1",
    ];
    let run = world.run_with(
        &options,
        ["sh", "-c", &format!("id -u; id -g; {MAP}; touch /x")],
    );
    run.output()?.success()?.stdout_is("0\n0\n0 1000 1\n")?;
    let options = [
        "--uid-map",
        "0:300000:10",
        "--uid-map",
        "10:400000:90",
        "-u",
        "42:43",
    ];
    let run = world.run_with(&options, ["sh", "-c", &format!("id -u; id -g; {MAP}")]);
    run.output()?
        .success()?
        .stdout_is("42\n43\n0 300000 10\n10 400000 90\n")?;
    // Who is not there cannot be become.
    world
        .run_with(&["--uid-map", "0:1000:1", "-u", "5"], ["true"])
        .output()?
        .fails_with(125, "user 5")?
        .has_one_complaint()?;
    Ok(())
}

fn containers_share_no_ids(world: &World) -> Result<()> {
    let commands: Vec<_> = (0..4)
        .map(|_| {
            let script = format!("{MAP}; sleep 2");
            world
                .run_with(&["--userns", "auto"], ["sh", "-c", &script])
                .spawn()
        })
        .collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    for command in commands {
        seen.insert(command.wait()?.success()?.stdout_text());
    }
    same("ranges", &seen.len(), &4)?;
    // Stopped, it keeps them; removed, it gives them back.
    let first = world.start(&["--userns", "auto"], &["sleep", "1000"])?;
    let map = |container: &isolazi_tests::Container<'_>| -> Result<String> {
        Ok(container
            .exec(&[], &["sh", "-c", MAP])
            .output()?
            .success()?
            .stdout_text())
    };
    let before = map(&first)?;
    world
        .isolazi(["restart", "-t", "0", first.name()])
        .output()?
        .success()?;
    same("ids after a restart", &map(&first)?, &before)?;
    let second = world.start(&["--userns", "auto"], &["sleep", "1000"])?;
    ensure!(map(&second)? != before, "two with the same ids");
    Ok(())
}

fn layers_and_volumes_are_everybodys_own(world: &World) -> Result<()> {
    let volume = format!("ids-{}", world.container().name());
    let mount = format!("{volume}:/data");
    let make = "touch /data/f && chown 33:34 /data/f && stat -c '%u %g' /data/f /data";
    let run = world.run_with(&["--userns", "auto", "-v", &mount], ["sh", "-c", make]);
    run.output()?.success()?.stdout_is("33 34\n0 0\n")?;
    // To another one, and to one that is as the machine, it is the same.
    for options in [&["--userns", "auto", "-v", &mount][..], &["-v", &mount]] {
        let look = world.run_with(options, ["stat", "-c", "%u %g", "/data/f"]);
        look.output()?.success()?.stdout_is("33 34\n")?;
    }
    world
        .isolazi(["volume", "rm", &volume])
        .output()?
        .success()?;
    // Changes are stored with the container's own ids.
    let container = world.container();
    let make = "touch /made && chown 5:6 /made && rm /bin/ash";
    world
        .isolazi(["run", "--userns", "auto", "--name", container.name()])
        .args([&world.busybox(), "sh", "-c", make])
        .output()?
        .success()?;
    let image = format!("{}:1", container.name());
    world
        .isolazi(["commit", container.name(), &image])
        .output()?
        .success()?;
    let look = "stat -c '%u %g' /made; test -e /bin/ash || echo gone";
    let run = world.isolazi(["run", "--rm", &image, "sh", "-c", look]);
    run.output()?.success()?.stdout_is("5 6\ngone\n")?;
    world.isolazi(["rmi", &image]).output()?.success()?;
    Ok(())
}

fn shared_folders_are_used_as_by_root(world: &World) -> Result<()> {
    let folder = world.temp()?;
    fs::write(folder.path().join("there"), "words\n")?;
    let mount = format!("{}:/mnt", folder.path().display());
    let script = "cat /mnt/there && stat -c %u /mnt/there && echo more >/mnt/made && cat /mnt/made";
    let run = world.run_with(&["--userns", "auto", "-v", &mount], ["sh", "-c", script]);
    run.output()?.success()?.stdout_is("words\n0\nmore\n")?;
    let made = fs::metadata(folder.path().join("made"))?;
    let there = fs::metadata(folder.path().join("there"))?;
    same("owner", &made.uid(), &there.uid())?;
    let mount = format!("{mount}:ro");
    let run = world.run_with(&["--userns", "auto", "-v", &mount], ["touch", "/mnt/x"]);
    run.output()?.code(1)?.stderr_has("Read-only")?;
    Ok(())
}

fn processes_of_exec_are_in_the_user_namespace(world: &World) -> Result<()> {
    let container = world.start(&["--userns", "auto"], &["sleep", "1000"])?;
    let script = "id -u; readlink /proc/self/ns/user >/own; readlink /proc/1/ns/user | cmp - /own && echo same";
    let exec = container.exec(&[], &["sh", "-c", script]);
    exec.output()?.success()?.stdout_is("0\nsame\n")?;
    let exec = container.exec(&["-u", "7:8"], &["sh", "-c", "id -u; id -g; id -G"]);
    exec.output()?.success()?.stdout_is("7\n8\n8\n")?;
    let exec = container.exec(
        &["--privileged"],
        &["sh", "-c", "mount -t tmpfs none /tmp && echo mounted"],
    );
    exec.output()?.success()?.stdout_is("mounted\n")?;
    // The machine's root it is not: what it may change of the kernel is its own.
    let exec = container.exec(
        &["--privileged"],
        &["sh", "-c", "mknod /x b 7 0 2>&1 | grep -o 'not permitted'"],
    );
    exec.output()?.stdout_is("not permitted\n")?;
    Ok(())
}

fn terminals_and_streams_belong_to_the_mapped_user(world: &World) -> Result<()> {
    for options in [&["--userns", "auto"][..], &["--userns", "auto", "-u", "9"]] {
        // Opening what is a pipe needs to own it.
        let run = world.run_with(
            options,
            ["sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr"],
        );
        run.output()?
            .success()?
            .stdout_is("out\n")?
            .stderr_has("err")?;
    }
    let mut session = world
        .run_with(
            &["--userns", "auto", "-it"],
            ["sh", "-c", "tty; stat -c %u /dev/console $(tty)"],
        )
        .on_terminal(24, 80)?;
    session.wait_for("/dev/pts/0")?;
    session.wait_for("0\r\n0\r\n")?;
    same("exit code", &session.wait()?.code(), &Some(0))
}

fn files_are_copied_with_the_containers_owners(world: &World) -> Result<()> {
    let container = world.start(&["--userns", "auto"], &["sleep", "1000"])?;
    let folder = world.temp()?;
    let file = folder.path().join("file");
    fs::write(&file, "words\n")?;
    let to = |path: &str| format!("{}:{path}", container.name());
    let path = file.to_string_lossy();
    world
        .isolazi(["cp", &path, &to("/tmp/in")])
        .output()?
        .success()?;
    let script = "cat /tmp/in; stat -c %u /tmp/in; chown 9:10 /tmp/in";
    let exec = container.exec(&[], &["sh", "-c", script]);
    exec.output()?.success()?.stdout_is("words\n0\n")?;
    // A tar says who it is, there and back.
    let tar = world.isolazi(["cp", "-", &to("/tmp")]);
    let archive = world
        .isolazi(["cp", &to("/tmp/in"), "-"])
        .output()?
        .success()?;
    ensure!(
        owners(&archive.stdout)? == vec![(9, 10)],
        "owners in the tar"
    );
    tar.stdin(archive.stdout).output()?.success()?;
    let exec = container.exec(&[], &["stat", "-c", "%u %g", "/tmp/in"]);
    exec.output()?.success()?.stdout_is("9 10\n")?;
    world
        .isolazi(["diff", container.name()])
        .output()?
        .success()?
        .stdout_has("A /tmp/in")?;
    let exported = world
        .isolazi(["export", container.name()])
        .output()?
        .success()?;
    let owners: BTreeSet<_> = owners(&exported.stdout)?.into_iter().collect();
    ensure!(
        owners.contains(&(9, 10)) && owners.iter().all(|it| it.0 < 65536),
        "{owners:?}"
    );
    Ok(())
}

/// Of all entries of a tar: its headers have them in octal digits.
fn owners(archive: &[u8]) -> Result<Vec<(u32, u32)>> {
    let number = |field: &[u8]| -> Result<u64> {
        let text = std::str::from_utf8(field)?.trim_matches(['\0', ' ']);
        u64::from_str_radix(text, 8).context("a number of a tar header")
    };
    let mut owners = Vec::new();
    let mut rest = archive;
    while let Some(header) = rest.get(..512).filter(|it| it[0] != 0) {
        let size = usize::try_from(number(&header[124..136])?)?;
        // Extended headers have none of their own.
        if !matches!(header[156], b'x' | b'g') {
            owners.push((
                u32::try_from(number(&header[108..116])?)?,
                u32::try_from(number(&header[116..124])?)?,
            ));
        }
        rest = rest
            .get(512 + size.next_multiple_of(512)..)
            .unwrap_or_default();
    }
    Ok(owners)
}

fn a_user_namespace_goes_with_every_option(world: &World) -> Result<()> {
    for (options, script, said) in [
        (
            &["--read-only", "--tmpfs", "/tmp"][..],
            "touch /tmp/x && touch /x 2>&1 | grep -o Read-only",
            "Read-only\n",
        ),
        (
            &["--init"],
            // The command may run before the init, its parent, has its name.
            "until grep -x isolazi-init /proc/1/comm; do sleep 0.05; done",
            "isolazi-init\n",
        ),
        (
            &["--privileged"],
            "mount -t tmpfs none /tmp && ls /sys/kernel >/dev/null && echo ok",
            "ok\n",
        ),
        (
            &["--device", "/dev/zero:/dev/mine"],
            "head -c 2 /dev/mine | wc -c",
            "2\n",
        ),
        (
            &["--cap-add", "MKNOD"],
            "mknod /dev/x c 1 3 2>/dev/null || echo no",
            "no\n",
        ),
        (
            &["--sysctl", "net.ipv4.ip_forward=1"],
            "cat /proc/sys/net/ipv4/ip_forward",
            "1\n",
        ),
        (
            &["--pids-limit", "50", "--hostname", "h"],
            "hostname",
            "h\n",
        ),
        (&["--seccomp", "strict"], "echo strict", "strict\n"),
    ] {
        let mut all = vec!["--userns", "auto"];
        all.extend(options);
        let run = world.run_with(&all, ["sh", "-c", script]).output()?;
        run.success()?
            .stdout_is(said)
            .with_context(|| format!("{options:?}"))?;
    }
    Ok(())
}

fn users_are_shown_by_inspect(world: &World) -> Result<()> {
    let shown = |options: &[&str]| -> Result<_> {
        let container = world.container();
        world
            .isolazi(["create", "--name", container.name()])
            .args(options)
            .args([world.busybox()])
            .output()?
            .success()?;
        let config = container.inspect()?["HostConfig"].take();
        Ok((config["UsernsMode"].clone(), config["IDMappings"].clone()))
    };
    same("host", &shown(&[])?, &(json!(""), json!(null)))?;
    let map = ["--uid-map", "0:1000:5", "--gid-map", "0:2000:6"];
    let maps = json!({"UidMap": ["0:1000:5"], "GidMap": ["0:2000:6"]});
    same("mapped", &shown(&map)?, &(json!("private"), maps))?;
    let (mode, maps) = shown(&["--userns", "auto"])?;
    same("auto", &mode, &json!("auto"))?;
    let range = maps["UidMap"][0].as_str().context("a range")?;
    ensure!(
        range.starts_with("0:") && range.ends_with(":65536"),
        "{range}"
    );
    Ok(())
}

fn contradictory_users_are_refused(world: &World) -> Result<()> {
    for (options, why) in [
        (
            &["--userns", "host", "--uid-map", "0:1:1"][..],
            "contradict",
        ),
        (&["--userns", "host", "--rootless"], "contradict"),
        (&["--uid-map", "5:1:1"], "root"),
        (&["--uid-map", "0:1:5", "--uid-map", "4:100:1"], "in common"),
        (&["--gid-map", "0:1:x"], "'0:1:x' maps no ids"),
        (&["--uid-map", "0:4294967295:1"], "maps no ids"),
    ] {
        let run = world.run_with(options, ["true"]).output()?;
        run.fails_with(125, why)?.has_one_complaint()?;
    }
    Ok(())
}
