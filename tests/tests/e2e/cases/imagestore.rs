//! Images on this computer: named, described, removed, in archives and in
//! registries that want to know who is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::fixture::find;
use isolazi_tests::handmade::{Image, Layer, digest, gzip};
use isolazi_tests::registry::Registry;
use isolazi_tests::stub::{Answer, Stub};
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            names_come_and_go,
            images_are_described_as_docker_does,
            a_used_image_is_kept_unless_forced,
            what_is_saved_can_be_loaded_and_run,
            a_root_file_system_is_imported_and_run,
            what_is_pushed_can_be_pulled,
            words_that_are_no_image,
        ],
        NativeOnly: [
            a_login_opens_a_registry,
            a_helper_keeps_the_secret,
            settings_name_mirrors_and_nothing_unknown,
            proxies_are_used_but_not_for_the_loopback,
        ],
        Alone: [
            pruning_takes_what_is_not_used,
        ],
    }
}

/// `me:hunter2`, as htpasswd writes it.
const USERS: &str = "me:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

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
fn own_image(world: &World, name: &str) -> Result<(String, String)> {
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

/// A registry of one's own, since what is pushed to the others' stays there.
fn registry(folder: &Path) -> Result<Registry> {
    let storage = folder.join("storage");
    fs::create_dir(&storage)?;
    Registry::start(&storage, folder)
}

fn what_is_pushed_can_be_pulled(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let registry = registry(folder.path())?;
    let (image, _) = own_image(world, "pushed")?;
    let there = format!("{}/team/app:1", registry.address());
    world.isolazi(["tag", &image, &there]).output()?.success()?;
    let pushed = world.isolazi(["push", &there]).output()?.success()?;
    pushed
        .stdout_has("1: digest: sha256:")?
        .stderr_has("pushing")?;
    let again = world.isolazi(["push", &there]).output()?.success()?;
    ensure!(
        !again.stderr_text().contains("pushing"),
        "{}",
        again.stderr_text()
    );
    world.isolazi(["rmi", &there, &image]).output()?.success()?;
    let ran = world.isolazi(["run", "--rm", &there, "/bin/sh", "-c", "echo pulled"]);
    ran.output()?.success()?.stdout_is("pulled\n")?;
    world.isolazi(["rmi", &there]).output()?.success()?;
    world
        .isolazi(["push", &there])
        .output()?
        .fails_with(1, "no such image")?;
    Ok(())
}

fn words_that_are_no_image(world: &World) -> Result<()> {
    for command in ["rmi", "history", "save", "inspect"] {
        for word in [
            "nothing-of-this-name",
            "../etc/passwd",
            "a\x1b[2Jb",
            "sha256:00",
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

/// A world, a registry that demands a password, and an image to push there.
struct Guarded {
    _folder: tempfile::TempDir,
    world: World,
    registry: Registry,
    docker: std::path::PathBuf,
    programs: std::path::PathBuf,
}

impl Guarded {
    fn new(world: &World) -> Result<Self> {
        let folder = world.temp()?;
        let path = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).map(|()| path)
        };
        let (storage, docker, programs) = (path("storage")?, path("docker")?, path("programs")?);
        Ok(Self {
            world: world.fresh(folder.path()),
            registry: Registry::start_guarded(&storage, folder.path(), USERS)?,
            _folder: folder,
            docker,
            programs,
        })
    }

    fn isolazi(&self, args: &[&str]) -> Invocation {
        let path = std::env::var("PATH").unwrap_or_default();
        self.world
            .isolazi(args)
            .env("DOCKER_CONFIG", &self.docker)
            .env("PATH", format!("{}:{path}", self.programs.display()))
    }

    fn login(&self, password: &str) -> Invocation {
        let address = self.registry.address();
        self.isolazi(&["login", "-u", "me", "--password-stdin", &address])
            .stdin(format!("{password}\n"))
    }

    fn config(&self) -> Result<String> {
        Ok(fs::read_to_string(self.docker.join("config.json"))?)
    }
}

fn a_login_opens_a_registry(world: &World) -> Result<()> {
    let guarded = Guarded::new(world)?;
    let image = format!("{}/private:1", guarded.registry.address());
    guarded
        .isolazi(&["run", "--rm", "hello"])
        .output()?
        .success()?;
    guarded
        .isolazi(&["tag", "hello", &image])
        .output()?
        .success()?;
    guarded
        .isolazi(&["push", &image])
        .output()?
        .fails_with(1, "isolazi login")?;
    let wrong = guarded.login("wrong").output()?;
    wrong.fails_with(1, "does not accept")?;
    ensure!(
        guarded.config().is_err(),
        "nothing is kept of a wrong login"
    );
    let login = guarded.login("hunter2").output()?.success()?;
    login.stdout_is("Login Succeeded\n")?;
    ensure!(!guarded.config()?.contains("hunter2"), "not as it is");
    let mode = fs::metadata(guarded.docker.join("config.json"))?.permissions();
    same("mode", &(mode.mode() & 0o777), &0o600)?;
    guarded.isolazi(&["push", &image]).output()?.success()?;
    guarded.isolazi(&["rmi", &image]).output()?.success()?;
    guarded.isolazi(&["pull", &image]).output()?.success()?;
    let address = guarded.registry.address();
    let logout = guarded.isolazi(&["logout", &address]).output()?.success()?;
    logout.stdout_has("Removing login credentials")?;
    guarded
        .isolazi(&["pull", &image])
        .output()?
        .fails_with(1, "needs a login")?;
    let again = guarded.isolazi(&["logout", &address]).output()?.success()?;
    again.stdout_has("Not logged in")?;
    for bad in [&["login", "-u", "me"][..], &["login", "--password-stdin"]] {
        let refused = guarded.isolazi(bad).output()?;
        refused.fails_with(1, "-u")?;
    }
    Ok(())
}

/// Keeps one login in a file, as a keychain would.
const HELPER: &str = r#"#!/bin/sh
kept=$(dirname "$0")/kept
echo "$1" >> "$kept.log"
case $1 in
    store) cat > "$kept" ;;
    erase) rm "$kept" ;;
    get)
        read -r server
        grep -q "\"ServerURL\":\"$server\"" "$kept" 2>/dev/null && cat "$kept" && exit
        echo 'credentials not found in native keychain'
        exit 1 ;;
esac
"#;

fn a_helper_keeps_the_secret(world: &World) -> Result<()> {
    let guarded = Guarded::new(world)?;
    let helper = guarded.programs.join("docker-credential-standin");
    fs::write(&helper, HELPER)?;
    fs::set_permissions(&helper, PermissionsExt::from_mode(0o755))?;
    let config = r#"{"credsStore": "standin", "HttpHeaders": {"X": "kept"}}"#;
    fs::write(guarded.docker.join("config.json"), config)?;
    let login = guarded.login("hunter2").output()?.success()?;
    login.stdout_is("Login Succeeded\n")?.stderr_is("")?;
    let config = guarded.config()?;
    ensure!(
        !config.contains("\"auth\"") && config.contains("kept"),
        "{config}"
    );
    let image = format!("{}/private:1", guarded.registry.address());
    guarded
        .isolazi(&["run", "--rm", "hello"])
        .output()?
        .success()?;
    guarded
        .isolazi(&["tag", "hello", &image])
        .output()?
        .success()?;
    guarded.isolazi(&["push", &image]).output()?.success()?;
    guarded
        .isolazi(&["logout", &guarded.registry.address()])
        .output()?
        .success()?;
    ensure!(!guarded.programs.join("kept").exists(), "it is forgotten");
    guarded
        .isolazi(&["pull", &image])
        .output()?
        .fails_with(1, "needs a login")?;
    let missing = r#"{"credHelpers": {"127.0.0.1": "x"}, "credsStore": "../evil"}"#;
    fs::write(guarded.docker.join("config.json"), missing)?;
    guarded
        .isolazi(&["pull", &image])
        .output()?
        .fails_with(1, "not a helper's name")?;
    Ok(())
}

fn settings_name_mirrors_and_nothing_unknown(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    fs::create_dir_all(fresh.root())?;
    let settings = fresh.root().join("config.toml");
    fs::write(&settings, "[registries]\nmirors = {}\n")?;
    let pull = fresh.isolazi(["pull", "registry.invalid/busybox:1"]);
    pull.output()?
        .fails_with(1, "line 2: unknown field `mirors`")?;
    let mirrors = format!(
        "[registries.mirrors]\n\"registry.invalid\" = [\"127.0.0.1:1\", \"{}\"]\n",
        world.shared().registry
    );
    fs::write(&settings, mirrors)?;
    let ran = fresh.isolazi([
        "run",
        "--rm",
        "registry.invalid/busybox:1",
        "echo",
        "mirrored",
    ]);
    ran.output()?.success()?.stdout_is("mirrored\n")?;
    Ok(())
}

fn proxies_are_used_but_not_for_the_loopback(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let fresh = world.fresh(folder.path());
    let proxy = Stub::start()?;
    let image = Image::new(&[Layer::default().file("x", "proxied")?.tar()?])?;
    let far = |path: &str| format!("http://far.invalid/v2/app/{path}");
    proxy.set(
        &far("manifests/1"),
        Answer::ok(&image.media_type, image.manifest.clone()),
    );
    for (digest, blob) in &image.blobs {
        let answer = Answer::ok("application/octet-stream", blob.clone());
        proxy.set(&far(&format!("blobs/{digest}")), answer);
    }
    let address = format!("http://{}", proxy.address());
    let through = |args: &[&str]| {
        let pull = fresh.isolazi(["--insecure-registry", "far.invalid", "pull"]);
        pull.args(args)
            .env("HTTP_PROXY", &address)
            .env("http_proxy", &address)
    };
    through(&["far.invalid/app:1"]).output()?.success()?;
    through(&[&world.busybox()]).output()?.success()?;
    let passed_over = through(&["far.invalid/app:1"]).env("NO_PROXY", "far.invalid");
    let passed_over = passed_over.env("no_proxy", "far.invalid");
    passed_over
        .timeout(world.patience(60))
        .output()?
        .fails_with(1, "cannot find registry 'far.invalid'")?;
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
