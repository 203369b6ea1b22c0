//! Registries that are pushed to, want to know who is there, have mirrors or
//! lie behind a proxy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::registry::Registry;
use isolazi_tests::stub::{Answer, Stub};
use isolazi_tests::{Case, Invocation, World};

use super::imagestore::own_image;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            what_is_pushed_can_be_pulled,
        ],
        NativeOnly: [
            a_login_opens_a_registry,
            a_helper_keeps_the_secret,
            settings_name_mirrors_and_nothing_unknown,
            proxies_are_used_but_not_for_the_loopback,
        ],
    }
}

/// `me:hunter2`, as htpasswd writes it.
const USERS: &str = "me:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

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
    let mut terminal = guarded.isolazi(&["login", &address]).on_terminal(24, 80)?;
    terminal.wait_for("Username: ")?;
    terminal.type_in("me\n")?;
    terminal.wait_for("Password: ")?;
    terminal.type_in("hunter2\n")?;
    terminal.wait_for("Login Succeeded")?;
    ensure!(terminal.wait()?.success(), "{}", terminal.shown());
    ensure!(
        !terminal.shown().contains("hunter2"),
        "what is typed must not show"
    );
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
