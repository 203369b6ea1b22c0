//! `cp`: files into containers and out of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{same, tool};
use isolazi_tests::{Case, Container, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            cp_copies_a_file_out_and_in,
            cp_out_follows_dockers_rules_for_targets,
            cp_in_follows_dockers_rules_for_targets,
            cp_keeps_a_tree_on_the_way_in_and_out,
            cp_sees_what_is_mounted_in_a_running_container,
            cp_works_on_an_ended_container,
            cp_reads_and_writes_archives,
            cp_follows_no_link_out_of_a_container,
            cp_is_not_fooled_by_exchanged_links,
            cp_says_why_it_cannot,
            cp_keeps_holes,
        ],
    }
}

fn cp(world: &World, args: &[&str]) -> Result<()> {
    world.isolazi(["cp"]).args(args).output()?.success()?;
    Ok(())
}

fn refused(world: &World, args: &[&str], why: &str) -> Result<()> {
    let output = world.isolazi(["cp"]).args(args).output()?;
    output.fails_with(1, why)?;
    Ok(())
}

/// A container that waits, after a script.
pub(super) fn waiting<'a>(world: &'a World, script: &str) -> Result<Container<'a>> {
    let script = format!("{script}\necho ready; sleep 1000");
    let container = world.start(&[], &["sh", "-c", &script])?;
    container.wait_log("ready")?;
    Ok(container)
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

fn inside(container: &Container<'_>, script: &str) -> Result<String> {
    let output = container.exec(&[], &["sh", "-c", script]).output()?;
    Ok(output.success()?.stdout_text())
}

fn cp_copies_a_file_out_and_in(world: &World) -> Result<()> {
    let container = waiting(world, "echo inside >/tmp/file; chmod 640 /tmp/file")?;
    let name = container.name();
    let folder = world.temp()?;
    let local = folder.path().join("local");
    cp(world, &[&format!("{name}:/tmp/file"), &text(&local)])?;
    same(
        "content",
        &fs::read_to_string(&local)?,
        &"inside\n".to_owned(),
    )?;
    same(
        "mode",
        &(local.metadata()?.permissions().mode() & 0o7777),
        &0o640,
    )?;
    fs::write(&local, "outside\n")?;
    cp(world, &[&text(&local), &format!("{name}:tmp/back")])?;
    let seen = inside(&container, "cat /tmp/back; stat -c '%u:%g %a' /tmp/back")?;
    same("seen inside", &seen, &"outside\n0:0 640\n".to_owned())
}

fn cp_out_follows_dockers_rules_for_targets(world: &World) -> Result<()> {
    let container = waiting(
        world,
        "mkdir -p /src/sub; echo 1 >/src/one; echo 2 >/src/sub/two; ln -s /src/one /link",
    )?;
    let name = container.name();
    let folder = world.temp()?;
    let at = |path: &str| folder.path().join(path);
    let from = |path: &str| format!("{name}:{path}");
    fs::create_dir(at("there"))?;
    cp(world, &[&from("/src"), &text(&at("there"))])?;
    ensure!(
        at("there/src/sub/two").is_file(),
        "into a folder that is there"
    );
    cp(world, &[&from("/src"), &text(&at("new"))])?;
    ensure!(at("new/sub/two").is_file(), "as a folder that is not");
    cp(world, &[&from("/src/."), &text(&at("there"))])?;
    ensure!(at("there/one").is_file(), "the content alone");
    cp(
        world,
        &[&from("/src/one"), &format!("{}/", text(&at("there")))],
    )?;
    cp(world, &[&from("/src/sub/two"), &text(&at("there/one"))])?;
    same(
        "replaced",
        &fs::read_to_string(at("there/one"))?,
        &"2\n".to_owned(),
    )?;
    cp(world, &[&from("/link"), &text(&at("link"))])?;
    same(
        "link",
        &fs::read_link(at("link"))?,
        &Path::new("/src/one").to_owned(),
    )?;
    cp(world, &["-L", &from("/link"), &text(&at("followed"))])?;
    same(
        "followed",
        &fs::read_to_string(at("followed"))?,
        &"1\n".to_owned(),
    )?;
    let no_folder = format!("{}/", text(&at("nowhere")));
    refused(world, &[&from("/src/one"), &no_folder], "does not exist")?;
    refused(
        world,
        &[&from("/src"), &text(&at("there/one"))],
        "is a folder",
    )?;
    refused(
        world,
        &[&from("/nothing"), &text(&at("x"))],
        "no file or folder /nothing",
    )?;
    refused(
        world,
        &[&from("/src/one/"), &text(&at("x"))],
        "is not a folder",
    )
}

fn cp_in_follows_dockers_rules_for_targets(world: &World) -> Result<()> {
    let container = waiting(world, "mkdir /there; echo old >/file; ln -s /there /link")?;
    let name = container.name();
    let folder = world.temp()?;
    let at = |path: &str| folder.path().join(path);
    let to = |path: &str| format!("{name}:{path}");
    fs::create_dir_all(at("src/sub"))?;
    fs::write(at("src/one"), "1\n")?;
    fs::write(at("src/sub/two"), "2\n")?;
    let (src, one) = (text(&at("src")), text(&at("src/one")));
    cp(world, &[&src, &to("/there")])?;
    cp(world, &[&src, &to("/new")])?;
    cp(world, &[&format!("{src}/."), &to("/link")])?;
    cp(world, &[&one, &to("/file")])?;
    cp(world, &[&one, &to("/there/sub/")])?;
    let list = "cd / && find there new file -type f | sort && cat file && [ -L link ]";
    let expected = "file\nnew/one\nnew/sub/two\nthere/one\nthere/src/one\nthere/src/sub/two\nthere/sub/one\nthere/sub/two\n1\n";
    same(
        "in the container",
        &inside(&container, list)?,
        &expected.to_owned(),
    )?;
    refused(world, &[&one, &to("/nowhere/")], "does not exist")?;
    refused(world, &[&one, &to("/no/where")], "no folder /no/")?;
    refused(world, &[&src, &to("/file")], "is a folder")?;
    refused(world, &[&one, &to("/file/")], "not a folder")
}

fn cp_keeps_a_tree_on_the_way_in_and_out(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("empty"))?;
    fs::write(tree.join("file"), "content")?;
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o751))?;
    fs::hard_link(tree.join("file"), tree.join("other"))?;
    symlink("../dangling", tree.join("link"))?;
    let long = "long-name-".repeat(20);
    fs::create_dir(tree.join(&long))?;
    fs::write(tree.join(&long).join(&long), "deep")?;
    tool(
        "touch",
        ["-d", "2001-02-03 04:05:06.789", &text(&tree.join("file"))],
    )?;
    let container = waiting(world, "")?;
    let name = container.name();
    cp(world, &[&text(&tree), &format!("{name}:/tree")])?;
    let script = "cd /tree; stat -c '%a %h %Y' file; readlink link; cat long*/long*; ls | wc -l";
    let seen = inside(&container, script)?;
    let expected = format!(
        "751 2 {}\n../dangling\ndeep5\n",
        tree.join("file").metadata()?.mtime()
    );
    same("in the container", &seen, &expected)?;
    let back = folder.path().join("back");
    cp(world, &[&format!("{name}:/tree"), &text(&back)])?;
    tool(
        "diff",
        ["-r", "--no-dereference", &text(&tree), &text(&back)],
    )?;
    let (file, other) = (
        back.join("file").metadata()?,
        back.join("other").metadata()?,
    );
    same("one file", &file.ino(), &other.ino())?;
    same(
        "time",
        &file.mtime(),
        &tree.join("file").metadata()?.mtime(),
    )?;
    Ok(())
}

fn cp_sees_what_is_mounted_in_a_running_container(world: &World) -> Result<()> {
    let volume = world.temp()?;
    fs::write(volume.path().join("shared"), "volume\n")?;
    let mount = format!("{}:/mnt/volume", volume.path().display());
    let container = world.start(&["-v", &mount], &["sleep", "1000"])?;
    let name = container.name();
    let folder = world.temp()?;
    let local = folder.path().join("local");
    cp(
        world,
        &[&format!("{name}:/mnt/volume/shared"), &text(&local)],
    )?;
    same(
        "content",
        &fs::read_to_string(&local)?,
        &"volume\n".to_owned(),
    )?;
    cp(world, &[&text(&local), &format!("{name}:/mnt/volume/back")])?;
    let back = fs::read_to_string(volume.path().join("back"))?;
    same("on the host", &back, &"volume\n".to_owned())?;
    // The kernel's own files are no files of the container.
    refused(
        world,
        &[&format!("{name}:/proc/self/environ"), "-q", &text(&local)],
        "the kernel's",
    )?;
    refused(
        world,
        &[&text(&local), &format!("{name}:/proc/sys/kernel/hostname")],
        "the kernel's",
    )
}

fn cp_works_on_an_ended_container(world: &World) -> Result<()> {
    let container = world.container();
    let name = container.name();
    let script = "echo made >/made; rm /data/file; mkdir /data/file";
    let run = world
        .isolazi(["run", "--name", name])
        .args([world.busybox()]);
    run.args(["sh", "-c", script]).output()?.success()?;
    let folder = world.temp()?;
    let at = |path: &str| folder.path().join(path);
    let from = |path: &str| format!("{name}:{path}");
    cp(world, &[&from("/made"), &text(&at("made"))])?;
    same(
        "content",
        &fs::read_to_string(at("made"))?,
        &"made\n".to_owned(),
    )?;
    cp(world, &[&from("/data"), &text(&at("data"))])?;
    ensure!(at("data/file").is_dir(), "a change hides the image's");
    fs::write(at("made"), "changed\n")?;
    cp(world, &[&text(&at("made")), &from("/data/file/")])?;
    cp(world, &[&from("/data/file/made"), &text(&at("again"))])?;
    same(
        "content",
        &fs::read_to_string(at("again"))?,
        &"changed\n".to_owned(),
    )?;
    container.wait_status("exited")?;
    Ok(())
}

fn cp_reads_and_writes_archives(world: &World) -> Result<()> {
    let container = waiting(world, "mkdir -p /src/sub /dst; echo 1 >/src/sub/one")?;
    let name = container.name();
    let output = world
        .isolazi(["cp", &format!("{name}:/src"), "-"])
        .output()?;
    let archive = output.success()?.stdout.clone();
    let folder = world.temp()?;
    fs::write(folder.path().join("a.tar"), &archive)?;
    let listed = tool("tar", ["tf", &text(&folder.path().join("a.tar"))])?;
    same(
        "listing",
        &listed,
        &"src/\nsrc/sub/\nsrc/sub/one\n".to_owned(),
    )?;
    let target = format!("{name}:/dst");
    world
        .isolazi(["cp", "-", &target])
        .stdin(archive)
        .output()?
        .success()?;
    same(
        "unpacked",
        &inside(&container, "cat /dst/src/sub/one")?,
        &"1\n".to_owned(),
    )?;
    tool("gzip", ["-k", &text(&folder.path().join("a.tar"))])?;
    let packed = fs::read(folder.path().join("a.tar.gz"))?;
    let target = format!("{name}:/dst/src");
    world
        .isolazi(["cp", "-", &target])
        .stdin(packed)
        .output()?
        .success()?;
    same(
        "unpacked",
        &inside(&container, "cat /dst/src/src/sub/one")?,
        &"1\n".to_owned(),
    )?;
    let nonsense = world.isolazi(["cp", "-", &target]).stdin(vec![b'x'; 4096]);
    nonsense.output()?.fails_with(1, "archive")?;
    let nowhere = world
        .isolazi(["cp", "-", &format!("{name}:/none")])
        .stdin("");
    nowhere.output()?.fails_with(1, "no folder /none")?;
    Ok(())
}

fn cp_follows_no_link_out_of_a_container(world: &World) -> Result<()> {
    let secret = world.temp()?;
    fs::write(secret.path().join("secret"), "the host's\n")?;
    let (there, up) = (secret.path().display(), "../".repeat(20));
    let script = format!(
        "ln -s {there} /absolute; ln -s {up}{there} /relative; ln -s /proc/1/root /magic; mkdir -p {there}; echo own >{there}/secret"
    );
    let container = waiting(world, &script)?;
    let name = container.name();
    let folder = world.temp()?;
    let local = folder.path().join("local");
    for link in ["absolute", "relative"] {
        cp(world, &[&format!("{name}:/{link}/secret"), &text(&local)])?;
        same("content", &fs::read_to_string(&local)?, &"own\n".to_owned())?;
        fs::write(&local, "sent\n")?;
        cp(world, &[&text(&local), &format!("{name}:/{link}/secret")])?;
        cp(world, &[&text(&local), &format!("{name}:/{link}/new")])?;
        inside(&container, &format!("echo own >{there}/secret"))?;
    }
    same(
        "left alone",
        &fs::read_to_string(secret.path().join("secret"))?,
        &"the host's\n".to_owned(),
    )?;
    ensure!(
        !secret.path().join("new").exists(),
        "something new on the host"
    );
    let magic = format!("{name}:/magic/etc/passwd");
    refused(world, &[&magic, &text(&local)], "the kernel's")?;
    refused(world, &[&text(&local), &magic], "the kernel's")
}

fn cp_is_not_fooled_by_exchanged_links(world: &World) -> Result<()> {
    let outside = world.temp()?;
    fs::write(outside.path().join("file"), "the host's\n")?;
    let script = format!(
        "mkdir -p /a{there} /real; echo own >/real/file; cd /; ln -s {there} /evil; ln -s real /at\n\
         (while :; do ln -sfn real at; ln -sfn {there} at; done) &",
        there = outside.path().display()
    );
    let container = waiting(world, &script)?;
    let name = container.name();
    let folder = world.temp()?;
    let local = folder.path().join("local");
    for _ in 0..if world.is_vm() { 5 } else { 40 } {
        // It may well find nothing at a bad moment.
        let output = world
            .isolazi(["cp", &format!("{name}:/at/file"), &text(&local)])
            .output()?;
        if output.is_success() {
            same("content", &fs::read_to_string(&local)?, &"own\n".to_owned())?;
        }
        fs::write(&local, "own\n")?;
        world
            .isolazi(["cp", &text(&local), &format!("{name}:/at/new")])
            .output()?;
    }
    let left: Vec<_> = fs::read_dir(outside.path())?.collect::<Result<_, _>>()?;
    same("files outside", &left.len(), &1)?;
    let kept = fs::read_to_string(outside.path().join("file"))?;
    same("left alone", &kept, &"the host's\n".to_owned())
}

fn cp_says_why_it_cannot(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let local = text(&folder.path().join("local"));
    refused(world, &[&local, &local], "neither side is in a container")?;
    refused(world, &["-", &local], "neither side is in a container")?;
    refused(world, &["a:/x", "b:/y"], "between containers")?;
    refused(world, &["nobody:/x", &local], "no such container: nobody")?;
    let container = waiting(world, "")?;
    let target = format!("{}:/tmp", container.name());
    refused(world, &[&local, &target], "cannot read")
}

fn cp_keeps_holes(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let size = 64 << 20;
    let sparse = folder.path().join("sparse");
    fs::File::create(&sparse)?.set_len(size)?;
    let container = waiting(world, "")?;
    let name = container.name();
    cp(world, &[&text(&sparse), &format!("{name}:/sparse")])?;
    let seen = inside(&container, "stat -c '%s %b' /sparse")?;
    let (length, blocks) = seen.trim().split_once(' ').context("two numbers")?;
    same("length", &length.parse::<u64>()?, &size)?;
    ensure!(
        blocks.parse::<u64>()? < 2048,
        "{blocks} blocks in the container"
    );
    let back = folder.path().join("back");
    cp(world, &[&format!("{name}:/sparse"), &text(&back)])?;
    let metadata = back.metadata()?;
    same("length", &metadata.len(), &size)?;
    ensure!(
        metadata.blocks() < 2048,
        "{} blocks here",
        metadata.blocks()
    );
    Ok(())
}
