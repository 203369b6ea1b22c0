//! Images on this computer: named, described, removed, and in archives.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::fixture::find;
use isolazi_tests::handmade::{Layer, digest, gzip};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            names_come_and_go,
            images_are_described_as_docker_does,
            a_used_image_is_kept_unless_forced,
            what_is_saved_can_be_loaded_and_run,
            a_root_file_system_is_imported_and_run,
            words_that_are_no_image,
        ],
        Alone: [
            pruning_takes_what_is_not_used,
        ],
    }
}

/// A root file system like no other: busybox, and a mark.
fn root_file_system() -> Result<Vec<u8>> {
    static MARK: AtomicU32 = AtomicU32::new(0);
    let mark = format!(
        "{} {}",
        std::process::id(),
        MARK.fetch_add(1, Ordering::Relaxed)
    );
    let busybox = fs::read(find("busybox").context("busybox is not installed")?)?;
    Layer::default()
        .folder("bin/")?
        .program("bin/busybox", &busybox)?
        .symlink("bin/sh", "busybox")?
        .symlink("bin/sleep", "busybox")?
        .symlink("bin/cat", "busybox")?
        .file("mark", &mark)?
        .tar()
}

/// An image that no other case knows; returns its name and what its layer is called.
pub(super) fn own_image(world: &World, name: &str) -> Result<(String, String)> {
    let name = format!("localhost/{name}-{}:1", world.mode());
    let tar = root_file_system()?;
    let imported = world.isolazi(["import", "-", &name]).stdin(tar.clone());
    imported.output()?.success()?.stdout_has("sha256:")?;
    Ok((name, digest(&tar)))
}

fn names_come_and_go(world: &World) -> Result<()> {
    let busybox = world.busybox();
    let name = format!("localhost:1/shelf/{}:a", world.mode());
    world
        .isolazi(["tag", &busybox, &name])
        .output()?
        .success()?;
    let listed = world.isolazi(["image", "ls"]).output()?.success()?;
    listed.stdout_has(&format!("localhost:1/shelf/{}", world.mode()))?;
    let ran = world.isolazi(["run", "--rm", &name, "echo", "named"]);
    ran.output()?.success()?.stdout_is("named\n")?;
    let removed = world.isolazi(["rmi", &name]).output()?.success()?;
    removed
        .stdout_is(&format!("Untagged: {name}\n"))?
        .stderr_is("")?;
    world
        .isolazi(["rmi", &name])
        .output()?
        .fails_with(1, "no such image")?;
    world.run(["true"]).output()?.success()?.stderr_is("")?;
    Ok(())
}

fn images_are_described_as_docker_does(world: &World) -> Result<()> {
    let image = world.image("configured");
    world.isolazi(["pull", "-q", &image]).output()?.success()?;
    let described = world.isolazi(["inspect", &image]).output()?.success()?;
    let described = described.json()?[0].take();
    same(
        "RepoTags",
        &described["RepoTags"][0],
        &image.as_str().into(),
    )?;
    let id = described["Id"].as_str().context("no Id")?.to_owned();
    for field in ["Config", "RootFS", "Size", "Architecture", "Os", "Created"] {
        ensure!(
            !described[field].is_null(),
            "{field} is missing: {described}"
        );
    }
    let short = id
        .trim_start_matches("sha256:")
        .get(..12)
        .context("a short id")?;
    let by_id = world
        .isolazi(["image", "inspect", short])
        .output()?
        .success()?;
    same("by id", &by_id.json()?[0]["Id"], &id.as_str().into())?;
    let history = world.isolazi(["history", &image]).output()?.success()?;
    history
        .stdout_has("CREATED BY")?
        .stdout_has(short)?
        .stdout_has("<missing>")?;
    let whole = world
        .isolazi(["history", "--no-trunc", "-q", &image])
        .output()?;
    whole.success()?.stdout_has(&id)?;
    Ok(())
}

fn a_used_image_is_kept_unless_forced(world: &World) -> Result<()> {
    let (image, layer) = own_image(world, "used")?;
    let container = world.container();
    world
        .isolazi([
            "run",
            "-d",
            "--name",
            container.name(),
            &image,
            "/bin/sleep",
            "1000",
        ])
        .output()?
        .success()?;
    let described = world.isolazi(["image", "inspect", &image]).output()?;
    let id = described.success()?.json()?[0]["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    world
        .isolazi(["rmi", &image])
        .output()?
        .fails_with(1, "is using its referenced image")?;
    world
        .isolazi(["rmi", &id])
        .output()?
        .fails_with(1, "image is being used by container")?;
    // The machine's containers count natively as well, while it runs.
    world
        .bare(["rmi", &image])
        .output()?
        .fails_with(1, "is using its referenced image")?;
    let forced = world.isolazi(["rmi", "-f", &image]).output()?.success()?;
    forced
        .stdout_has(&format!("Untagged: {image}\n"))?
        .stdout_has(&format!("Deleted: {id}\n"))?
        .stdout_has(&format!("Deleted: {layer}\n"))?;
    // The container has lost nothing.
    let alive = container.exec(&[], &["/bin/cat", "/bin/sh"]).output()?;
    ensure!(alive.success()?.stdout.len() > 100_000, "busybox is there");
    world
        .isolazi(["rmi", &image])
        .output()?
        .fails_with(1, "no such image")?;
    if world.is_vm() {
        return Ok(());
    }
    let unpacked = world
        .root()
        .join("layers/sha256")
        .join(layer.trim_start_matches("sha256:"));
    ensure!(unpacked.is_dir(), "the container's layer is gone");
    world
        .isolazi(["rm", "-f", container.name()])
        .output()?
        .success()?;
    world
        .isolazi(["image", "prune", "-f"])
        .output()?
        .success()?;
    ensure!(!unpacked.exists(), "nobody needs the layer any more");
    Ok(())
}

fn what_is_saved_can_be_loaded_and_run(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let (image, _) = own_image(world, "archived")?;
    let file = folder.path().join("image.tar");
    let saved = world
        .isolazi(["save", "-o"])
        .args([file.as_os_str()])
        .args([&image]);
    saved.output()?.success()?.stdout_is("")?;
    let piped = world.isolazi(["save", &image]).output()?.success()?;
    ensure!(piped.stdout == fs::read(&file)?, "by both ways the same");
    for archive in [piped.stdout.clone(), gzip(&piped.stdout)?] {
        world.isolazi(["rmi", &image]).output()?.success()?;
        let loaded = world.isolazi(["load"]).stdin(archive).output()?.success()?;
        loaded.stdout_is(&format!("Loaded image: {image}\n"))?;
        let ran = world.isolazi(["run", "--rm", &image, "/bin/cat", "/mark"]);
        let mark = ran.output()?.success()?.stdout_text();
        ensure!(mark.starts_with(&std::process::id().to_string()), "{mark}");
    }
    let mut terminal = world.isolazi(["save", &image]).on_terminal(24, 80)?;
    terminal.wait_for("no sight for a terminal")?;
    ensure!(!terminal.wait()?.success(), "it was refused");
    let nowhere = world.isolazi(["save", "-o", "/nowhere/x.tar", &image]);
    nowhere.output()?.fails_with(1, "/nowhere/x.tar")?;
    same("files", &fs::read_dir(folder.path())?.count(), &1)?;
    world.isolazi(["rmi", &image]).output()?.success()?;
    Ok(())
}

fn a_root_file_system_is_imported_and_run(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("root.tar.gz");
    fs::write(&file, gzip(&root_file_system()?)?)?;
    let imported = world
        .isolazi(["import", "-m", "by hand"])
        .args([&file])
        .output()?;
    let id = imported.success()?.stdout_text().trim().to_owned();
    let short = id
        .trim_start_matches("sha256:")
        .get(..12)
        .context("an id")?;
    let listed = world.isolazi(["images"]).output()?.success()?.stdout_text();
    let line = listed.lines().find(|line| line.contains(short));
    ensure!(
        line.is_some_and(|line| line.starts_with("<none>")),
        "{listed}"
    );
    let ran = world.isolazi(["run", "--rm", short, "/bin/sh", "-c", "echo from $0"]);
    ran.output()?.success()?.stdout_is("from /bin/sh\n")?;
    let history = world.isolazi(["history", short]).output()?.success()?;
    history.stdout_has("by hand")?;
    let removed = world.isolazi(["rmi", short]).output()?.success()?;
    removed.stdout_has(&format!("Deleted: {id}"))?;
    for (what, text) in [("no archive at all", "no tar archive"), ("", "empty")] {
        let bad = world.isolazi(["import", "-"]).stdin(what).output()?;
        bad.fails_with(1, text)?;
    }
    Ok(())
}

fn words_that_are_no_image(world: &World) -> Result<()> {
    for command in ["rmi", "history", "save", "inspect"] {
        for word in [
            "nothing-of-this-name",
            "../etc/passwd",
            "a\x1b[2Jb",
            "sha256:0000000000000000",
        ] {
            let output = world.isolazi([command, word]).output()?;
            output.fails_with(1, "no such")?;
        }
    }
    let missing = world
        .isolazi(["inspect", "--type", "image", "nothing"])
        .output()?;
    missing.fails_with(1, "no such image: nothing")?;
    let busybox = world.busybox();
    let pinned = format!("x@{}", digest(b""));
    for target in ["UPPER", pinned.as_str(), ""] {
        let tag = world.isolazi(["tag", &busybox, target]).output()?;
        tag.fails_with(1, "name")?;
    }
    Ok(())
}

fn pruning_takes_what_is_not_used(world: &World) -> Result<()> {
    let folder = world.temp()?;
    // The machine's disk is the machine's, so in a VM it is everybody's.
    let fresh = match world.is_vm() {
        true => None,
        false => Some(world.fresh(folder.path())),
    };
    let world = fresh.as_ref().unwrap_or(world);
    let (idle, idle_layer) = own_image(world, "idle")?;
    let (used, _) = own_image(world, "in-use")?;
    world
        .isolazi(["run", "--rm", &idle, "/bin/cat", "/mark"])
        .output()?
        .success()?;
    let stopped = world.container();
    let ended = ["run", "--name", stopped.name(), &used, "/bin/cat", "/mark"];
    world.isolazi(ended).output()?.success()?;
    let running = world.container();
    let sleeping = [
        "run",
        "-d",
        "--name",
        running.name(),
        &used,
        "/bin/sleep",
        "1000",
    ];
    world.isolazi(sleeping).output()?.success()?;

    let df = world.isolazi(["system", "df"]).output()?.success()?;
    df.stdout_has("RECLAIMABLE")?.stdout_has("Containers")?;
    let declined = world
        .isolazi(["system", "prune", "-a"])
        .stdin("n\n")
        .output()?;
    declined.success()?.stdout_is("")?.stderr_has("[y/N]")?;
    ensure!(stopped.is_listed()?, "the answer was no");

    let pruned = world.isolazi(["prune"]).output()?.success()?;
    pruned
        .stdout_has("Deleted Containers:")?
        .stdout_has(&format!("untagged: {idle}\n"))?
        .stdout_lacks(&format!("untagged: {used}\n"))?
        .stdout_has("Total reclaimed space: ")?
        .stdout_lacks("space: 0B")?;
    ensure!(
        !stopped.is_listed()? && running.is_listed()?,
        "one was running"
    );
    let alive = running.exec(&[], &["/bin/cat", "/mark"]).output()?;
    alive.success()?;
    world
        .isolazi(["rm", "-f", running.name()])
        .output()?
        .success()?;
    let yes = world
        .isolazi(["image", "prune", "-a"])
        .stdin("y\n")
        .output()?;
    yes.success()?.stdout_has(&format!("untagged: {used}\n"))?;
    let listed = world.isolazi(["images", "-q"]).output()?.success()?;
    listed.stdout_is("")?;
    let df = world
        .isolazi(["system", "df"])
        .output()?
        .success()?
        .stdout_text();
    let images = df.lines().find(|line| line.starts_with("Images"));
    let words: Vec<_> = images.unwrap_or_default().split_whitespace().collect();
    same(
        "images left",
        &words.get(1..4),
        &Some(&["0", "0", "0B"][..]),
    )?;
    if !world.is_vm() {
        let layers = world.root().join("layers/sha256");
        ensure!(
            !layers
                .join(idle_layer.trim_start_matches("sha256:"))
                .exists(),
            "{idle_layer}"
        );
        same("layers", &fs::read_dir(layers)?.count(), &0)?;
        same(
            "blobs",
            &fs::read_dir(world.root().join("images/blobs/sha256"))?.count(),
            &0,
        )?;
    }
    Ok(())
}
