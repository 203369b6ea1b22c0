//! `diff`, `export` and `commit`: what a container has made of its image.

use std::fs;

use anyhow::{Result, ensure};
use isolazi_tests::command::{same, tool};
use isolazi_tests::{Case, Container, World};

use super::files::{text, waiting};
use super::health::wait_status;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            diff_lists_what_a_container_changed,
            diff_of_a_new_container_is_empty,
            export_writes_the_root_file_system,
            export_writes_a_file_whole_or_not_at_all,
            commit_makes_an_image_that_runs,
            commit_carries_deletions_along,
            commit_applies_changes,
            commit_can_give_an_image_a_health_check,
            commit_without_a_name_makes_an_image_all_the_same,
            commit_says_why_it_cannot,
        ],
    }
}

fn diff(world: &World, container: &Container<'_>) -> Result<String> {
    let output = world.isolazi(["diff", container.name()]).output()?;
    Ok(output.success()?.stdout_text())
}

fn diff_lists_what_a_container_changed(world: &World) -> Result<()> {
    let script = "echo x >/tmp/new; rm /data/file; mkdir /data/sub; chmod 700 /home/alice; rm -r /var; mkdir /var; echo >>/etc/passwd";
    let container = waiting(world, script)?;
    let expected = "C /data\nD /data/file\nA /data/sub\nC /etc\nC /etc/passwd\nC /home\nC /home/alice\nC /tmp\nA /tmp/new\nC /var\nD /var/lib\n";
    same(
        "while it runs",
        &diff(world, &container)?,
        &expected.to_owned(),
    )?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    same(
        "once it has ended",
        &diff(world, &container)?,
        &expected.to_owned(),
    )
}

fn diff_of_a_new_container_is_empty(world: &World) -> Result<()> {
    let container = waiting(world, "")?;
    same("changes", &diff(world, &container)?, &String::new())?;
    let unknown = world.isolazi(["diff", "nobody"]).output()?;
    unknown.fails_with(1, "no such container: nobody")?;
    Ok(())
}

fn export_writes_the_root_file_system(world: &World) -> Result<()> {
    let volume = world.temp()?;
    fs::write(volume.path().join("secret"), "mounted")?;
    let mount = format!("{}:/mnt", volume.path().display());
    let script = "echo made >/made; rm /data/file; echo ready; sleep 1000";
    let container = world.start(&["-v", &mount], &["sh", "-c", script])?;
    container.wait_log("ready")?;
    let check = |when: &str| -> Result<()> {
        let output = world
            .isolazi(["export", container.name()])
            .output()?
            .success()?;
        let folder = world.temp()?;
        let archive = folder.path().join("root.tar");
        fs::write(&archive, &output.stdout)?;
        let listed = tool("tar", ["tvf", &text(&archive)])?;
        let has = |path: &str| listed.lines().any(|line| line.ends_with(path));
        for path in [" made", " bin/busybox", " etc/passwd", " proc/", " mnt/"] {
            ensure!(has(path), "{when}: no {path} in\n{listed}");
        }
        for path in [
            " data/file",
            " mnt/secret",
            " proc/self",
            " proc/1/",
            " dev/null",
        ] {
            ensure!(!has(path), "{when}: {path} in\n{listed}");
        }
        ensure!(listed.contains("1000/1001"), "{when}: owners");
        Ok(())
    };
    check("while it runs")?;
    world
        .isolazi(["stop", "-t", "0", container.name()])
        .output()?
        .success()?;
    check("once it has ended")
}

fn export_writes_a_file_whole_or_not_at_all(world: &World) -> Result<()> {
    let container = waiting(world, "echo made >/made")?;
    let folder = world.temp()?;
    let file = folder.path().join("root.tar");
    fs::write(&file, "old")?;
    let unknown = world
        .isolazi(["export", "-o", &text(&file), "nobody"])
        .output()?;
    unknown.fails_with(1, "no such container: nobody")?;
    same("kept", &fs::read_to_string(&file)?, &"old".to_owned())?;
    let nowhere = format!("{}/none/root.tar", folder.path().display());
    let refused = world
        .isolazi(["export", "-o", &nowhere, container.name()])
        .output()?;
    refused.fails_with(1, "cannot write")?;
    world
        .isolazi(["export", "-o", &text(&file), container.name()])
        .output()?
        .success()?;
    let made = tool("tar", ["xOf", &text(&file), "made"])?;
    same("content", &made, &"made\n".to_owned())?;
    same("files", &fs::read_dir(folder.path())?.count(), &1)?;
    let session = world
        .isolazi(["export", container.name()])
        .on_terminal(24, 80)?;
    session.wait_for("nothing for a terminal")
}

/// A name for an image, which no other case uses.
fn image(world: &World, name: &str) -> String {
    format!("localhost/{}-{name}:1", world.mode())
}

fn commit(world: &World, args: &[&str]) -> Result<String> {
    let output = world.isolazi(["commit"]).args(args).output()?.success()?;
    let id = output.stdout_text().trim().to_owned();
    ensure!(id.starts_with("sha256:") && id.len() == 71, "an id: {id}");
    Ok(id)
}

fn commit_makes_an_image_that_runs(world: &World) -> Result<()> {
    let script = "echo made >/made; chown 1000:1001 /made; chmod 4751 /made; ln /made /linked; ln -s made /link; mkdir -m 1777 /folder";
    let container = waiting(world, script)?;
    let image = image(world, "runs");
    let id = commit(world, &["-m", "why", "-a", "me", container.name(), &image])?;
    let listed = world.isolazi(["images"]).output()?.success()?;
    listed.stdout_has(&id["sha256:".len()..][..12])?;
    let script =
        "cat /link; stat -c '%u:%g %a %h' /made /linked; stat -c %a /folder; cat /data/file";
    let run = world
        .isolazi(["run", "--rm", &image, "sh", "-c", script])
        .output()?;
    run.success()?
        .stdout_is("made\n1000:1001 4751 2\n1000:1001 4751 2\n1777\nfrom the image\n")?;
    // One made of that, with what both have changed.
    let second = world.container();
    let run = world.isolazi(["run", "--name", second.name(), &image]);
    run.args(["sh", "-c", "echo more >/more"])
        .output()?
        .success()?;
    let again = image.replace("runs", "runs-again");
    commit(world, &[second.name(), &again])?;
    let run = world
        .isolazi(["run", "--rm", &again, "cat", "/made", "/more"])
        .output()?;
    run.success()?.stdout_is("made\nmore\n")?;
    Ok(())
}

fn commit_carries_deletions_along(world: &World) -> Result<()> {
    let script = "rm -r /home; mkdir -p /home/bob; rm /data/file; mkdir /data/file; rm /bin/probe";
    let container = waiting(world, script)?;
    let image = image(world, "deletions");
    commit(world, &[container.name(), &image])?;
    let script = "ls /data /home; stat -c %F /data/file; ls /bin/probe 2>/dev/null; true";
    let run = world
        .isolazi(["run", "--rm", &image, "sh", "-c", script])
        .output()?;
    run.success()?
        .stdout_is("/data:\nfile\n\n/home:\nbob\ndirectory\n")?;
    Ok(())
}

fn commit_applies_changes(world: &World) -> Result<()> {
    let options = ["-e", "KEPT=yes"];
    let container = world.start(&options, &["sleep", "1000"])?;
    let image = image(world, "changes");
    let changes = [
        "-c",
        "ENV GREETING=\"hello there\" HOME=/tmp",
        "-c",
        "WORKDIR /data",
        "--change",
        "USER 1000:1001",
        "--change",
        r#"ENTRYPOINT ["sh", "-c"]"#,
        "--change",
        r#"CMD ["echo $GREETING $KEPT; pwd; id -u"]"#,
    ];
    commit(world, &[&changes[..], &[container.name(), &image]].concat())?;
    let run = world.isolazi(["run", "--rm", &image]).output()?;
    run.success()?.stdout_is("hello there yes\n/data\n1000\n")?;
    Ok(())
}

fn commit_can_give_an_image_a_health_check(world: &World) -> Result<()> {
    let container = world.start(&[], &["sleep", "1000"])?;
    let image = image(world, "checked");
    let change = r#"HEALTHCHECK --interval=100ms --retries=2 CMD test -e "/ill" && exit 1 || true"#;
    commit(world, &["-c", change, container.name(), &image])?;
    let checked = world.container();
    let run = [
        "run",
        "-d",
        "--name",
        checked.name(),
        &image,
        "sleep",
        "1000",
    ];
    world.isolazi(run).output()?.success()?;
    for (command, status) in [("true", "healthy"), ("touch /ill", "unhealthy")] {
        checked
            .exec(&[], &["sh", "-c", command])
            .output()?
            .success()?;
        wait_status(world, &checked, status)?;
    }
    Ok(())
}

fn commit_without_a_name_makes_an_image_all_the_same(world: &World) -> Result<()> {
    let container = waiting(world, "echo made >/made")?;
    let id = commit(world, &[container.name()])?;
    let listed = world.isolazi(["images", "-q"]).output()?.success()?;
    listed.stdout_has(&id["sha256:".len()..][..12])?;
    Ok(())
}

fn commit_says_why_it_cannot(world: &World) -> Result<()> {
    let container = waiting(world, "touch /.wh.x")?;
    let name = container.name();
    let refused = |args: &[&str], why: &str| -> Result<()> {
        world
            .isolazi(["commit"])
            .args(args)
            .output()?
            .fails_with(1, why)?;
        Ok(())
    };
    refused(&["nobody", "x:1"], "no such container: nobody")?;
    refused(&[name, "Not A Name"], "Not A Name")?;
    refused(&["-c", "RUN true", name, "x:1"], "RUN true")?;
    refused(&[name, "x:1"], ".wh.x")
}
