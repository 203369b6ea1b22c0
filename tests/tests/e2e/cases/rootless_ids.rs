//! Ids of an ordinary user's containers, chosen with `--uid-map`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use anyhow::Result;
use isolazi_tests::command::{eventually, same, tool};
use isolazi_tests::ordinary::{FIRST, Ordinary, USER};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        NativeOnly: [
            an_ordinary_user_maps_own_ids_only,
            own_ids_are_mapped_to_others_than_those_of_images,
            files_of_other_ids_go_in_and_out,
        ],
    }
}

fn an_ordinary_user_maps_own_ids_only(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let own = format!("0:{USER}:1");
    let script = "id -u; id -g; stat -c %u /; ls -ln /proc/self/uid_map >/dev/null; wc -l </proc/self/uid_map; touch /x";
    let run = user.run(
        world,
        &["--rootless", "--uid-map", &own, "--gid-map", &own],
        script,
    );
    run.output()?.success()?.stdout_is("0\n0\n0\n1\n")?;
    // Another user is not there.
    user.run(world, &["--uid-map", &own, "-u", "33"], "true")
        .output()?
        .fails_with(125, "user 33")?;
    let two = format!("1:{FIRST}:100");
    let run = user.run(
        world,
        &["--uid-map", &own, "--uid-map", &two, "-u", "33"],
        "id -u",
    );
    run.output()?.success()?.stdout_is("33\n")?;
    for (map, why) in [
        ("0:0:1", "user 0 is not yours"),
        ("0:1:1", "user 1 is not yours"),
        ("1:1:1", "root"),
        ("0:1", "'0:1' maps no ids"),
    ] {
        let refused = user.run(world, &["--uid-map", map], "true").output()?;
        refused.fails_with(125, why)?.has_one_complaint()?;
    }
    user.run(world, &["--userns", "auto"], "true")
        .output()?
        .fails_with(125, "--userns auto needs root")?;
    Ok(())
}

fn own_ids_are_mapped_to_others_than_those_of_images(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let shared = user.at().join("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777))?;
    let owner = |name: &str| -> Result<_> {
        let found = fs::metadata(shared.join(name))?;
        Ok((found.uid(), found.gid()))
    };
    // Root of the container is nobody of the machine's, not even the user.
    let all = format!("0:{FIRST}:65536");
    let script = "id -u; stat -c %u / /bin/busybox /home/alice /etc/hosts; echo '1.2.3.4 x' >>/etc/hosts && \
                  touch /x /mnt/roots && cat /proc/self/uid_map | tr -s ' '; stat -c %u /mnt";
    let run = user.run(world, &["-v", "./shared:/mnt", "--uid-map", &all], script);
    // In the terms of the namespace above, where the user is 0.
    run.output()?
        .success()?
        .stdout_is("0\n0\n0\n1000\n0\n 0 1 65536\n65534\n")?;
    same("root's file", &owner("roots")?, &(FIRST, FIRST))?;
    // The user is one of the container's, for whose files it is.
    let (most, own) = (format!("0:{FIRST}:1000"), format!("1000:{USER}:1"));
    let rest = format!("1001:{}:64000", FIRST + 1000);
    let keep = [
        "--uid-map",
        &most,
        "--uid-map",
        &own,
        "--uid-map",
        &rest,
        "-v",
        "./shared:/mnt",
    ];
    let script = "touch /mnt/mine; stat -c %u /mnt /home/alice; touch /home/alice/x && stat -c %u /bin/busybox";
    let run = user.run(world, &[&keep[..], &["-u", "1000"]].concat(), script);
    run.output()?.success()?.stdout_is("1000\n1000\n0\n")?;
    same("the user's file", &owner("mine")?, &(USER, USER))?;
    // Whoever is left out owns nothing that others could have.
    let run = user.run(
        world,
        &["--uid-map", &format!("0:{FIRST}:5")],
        "stat -c %u /home/alice /bin/busybox",
    );
    run.output()?.success()?.stdout_is("65534\n0\n")?;
    Ok(())
}

fn files_of_other_ids_go_in_and_out(world: &World) -> Result<()> {
    let user = Ordinary::new(world)?;
    let image = world.busybox();
    let all = format!("0:{FIRST}:65536");
    let run = |command: &[&str]| -> Result<String> {
        let output = user.isolazi(command).output()?.success()?;
        Ok(output.stdout_text())
    };
    let script = "touch /data/f && touch /f && chown 7:8 /f /data/f && rm -r /home/alice && mkdir -p /home/alice && sleep 1000";
    let begun = [
        "run",
        "-d",
        "--name",
        "it",
        "-v",
        "data:/data",
        "--uid-map",
        &all,
    ];
    run(&[&begun[..], &[image.as_str(), "sh", "-c", script]].concat())?;
    fs::write(user.at().join("in"), "words\n")?;
    let owners = |where_: &str| -> Result<()> {
        run(&["cp", "in", "it:/tmp/in"])?;
        run(&["cp", "it:/tmp/in", "out"])?;
        let copied = fs::read_to_string(user.at().join("out"))?;
        same("the copy", &copied, &"words\n".to_owned())?;
        run(&["export", "-o", "root.tar", "it"])?;
        let archive = user.at().join("root.tar");
        let options = ["--numeric-owner".into(), "-tvf".into(), archive.into()];
        let names = ["f", "tmp/in", "bin/busybox"].map(OsString::from);
        let listed = tool("tar", options.into_iter().chain(names))?;
        let mut found: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        found.sort_unstable();
        same(where_, &found, &vec!["0/0", "0/0", "7/8"])
    };
    eventually(Duration::from_secs(20), "its changes", || {
        let changes = run(&["diff", "it"])?;
        Ok((changes.contains("A /f") && changes.contains("C /home/alice")).then_some(()))
    })?;
    owners("of a running one")?;
    run(&["stop", "-t", "0", "it"])?;
    owners("of an ended one")?;
    run(&["start", "it"])?;
    run(&["commit", "it", "mine:1"])?;
    // Elsewhere the image is like others.
    let look = "stat -c '%u %g' /f /tmp/in /home/alice; ls /home/alice | wc -l";
    let wanted = "7 8\n0 0\n0 0\n0\n";
    for options in [&[][..], &["--uid-map", &all]] {
        let seen = run(&[&["run", "--rm"], options, &["mine:1", "sh", "-c", look]].concat())?;
        same("the image's files", &seen, &wanted.to_owned())?;
    }
    run(&["rm", "-f", "it"])?;
    // The copies go with the layers they are of.
    let layers = user.at().join(".isolazi/layers/sha256");
    run(&["rmi", "mine:1", &image])?;
    run(&["system", "prune", "-af"])?;
    same("layers", &fs::read_dir(layers)?.count(), &0)
}
