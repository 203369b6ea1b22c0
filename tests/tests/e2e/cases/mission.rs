//! What the introduction to isolazi shows is typed in as it stands there. The
//! public registries are mirrors on the loopback; of the lines, only
//! `<container_id>` and `/host/data` are replaced.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use isolazi_tests::{Case, Invocation, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            the_examples_run_as_written,
        ],
    }
}

/// A user who has nothing yet.
struct Newcomer {
    world: World,
    folder: tempfile::TempDir,
}

impl Newcomer {
    fn new(world: &World) -> Result<Self> {
        let (alpine, other) = (world.busybox(), world.image("configured"));
        for (ours, name) in [
            (&alpine, "library/alpine:latest"),
            (&alpine, "library/nginx:latest"),
            (&other, "owner/repo:tag"),
        ] {
            let there = format!("{}/{name}", world.shared().registry);
            world.isolazi(["pull", ours]).output()?.success()?;
            world.isolazi(["tag", ours, &there]).output()?.success()?;
            world.isolazi(["push", &there]).output()?.success()?;
            world.isolazi(["rmi", &there]).output()?.success()?;
        }
        let folder = world.temp()?;
        let own = world.fresh(folder.path());
        fs::create_dir_all(own.root())?;
        let registry = &world.shared().registry;
        let settings = format!(
            "[registries.mirrors]\n\"docker.io\" = [\"{registry}\"]\n\"ghcr.io\" = [\"{registry}\"]\n"
        );
        fs::write(own.root().join("config.toml"), settings)?;
        Ok(Self { world: own, folder })
    }

    /// The line, typed into a shell.
    fn types(&self, line: &str) -> Result<Invocation> {
        let program = &self.world.shared().program;
        let beside = program.parent().unwrap_or(Path::new("/"));
        let path = env::var("PATH").unwrap_or_default();
        let mode = if self.world.is_vm() { "1" } else { "0" };
        let mut command = Invocation::new("sh", self.world.patience(60)).args(["-c", line]);
        let mut path = OsString::from(path);
        for (key, value) in self.world.variables() {
            match key {
                "PATH" => path = value,
                _ => command = command.env(key, value),
            }
        }
        let mut all = beside.as_os_str().to_owned();
        all.push(":");
        all.push(path);
        Ok(command
            .env("PATH", all)
            .env("ISOLAZI_HOME", self.world.root())
            .env("ISOLAZI_APPLIANCE", &self.world.shared().appliance)
            .env("ISOLAZI_VM", mode))
    }

    /// Types the line, which has to succeed, and returns what it printed.
    fn does(&self, line: &str) -> Result<String> {
        let output = self.types(line)?.output()?.success()?;
        Ok(output.stdout_text())
    }

    fn sees(&self, line: &str, text: &str) -> Result<()> {
        let output = self.types(line)?.output()?;
        output.success()?.stdout_has(text).map(drop)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        // Whatever is left after a failure.
        drop(self.does("isolazi rm -f $(isolazi ps -aq); isolazi prune; isolazi vm stop"));
    }
}

fn the_examples_run_as_written(world: &World) -> Result<()> {
    let user = Newcomer::new(world)?;
    containers_are_run(&user)?;
    containers_are_managed(&user)?;
    commands_run_in_containers(&user)?;
    images_are_managed(&user)
}

fn containers_are_run(user: &Newcomer) -> Result<()> {
    user.does("isolazi pull alpine:latest")?;
    let mut shell = user
        .types("isolazi run alpine /bin/sh")?
        .on_terminal(24, 80)?;
    shell.type_in("echo in $((20 + 22)); exit\n")?;
    shell.wait_for("in 42")?;
    ensure!(shell.wait()?.success(), "{}", shell.shown());
    let hello = "isolazi run alpine echo \"Hello from container!\"";
    user.sees(hello, "Hello from container!\n")?;
    let id = user.does("isolazi run -d alpine sleep 300")?;
    user.sees("isolazi ps", &id.trim()[..12])?;
    let environment = user.does("isolazi run -e MYVAR=hello -e DEBUG=1 alpine env")?;
    ensure!(
        environment.contains("MYVAR=hello\n") && environment.contains("DEBUG=1\n"),
        "{environment}"
    );
    let several = "POSTGRES_PASSWORD=secret,POSTGRES_USER=myuser,POSTGRES_DB=mydb";
    user.sees(
        &format!("isolazi run -e {several} alpine env"),
        "POSTGRES_DB=mydb\n",
    )?;
    let data = user.folder.path().join("data");
    fs::create_dir_all(&data)?;
    fs::write(data.join("from-here"), "")?;
    let listing = "isolazi run -v /host/data:/container/data alpine ls /container/data";
    let listing = listing.replace("/host/data", &data.display().to_string());
    user.sees(&listing, "from-here\n")?;
    user.sees(
        "isolazi run --hostname box --cwd /tmp alpine sh -c 'hostname; pwd'",
        "box\n/tmp\n",
    )?;
    let score = "isolazi run --oom-score-adj 500 alpine cat /proc/self/oom_score_adj";
    user.sees(score, "500\n")?;
    user.sees("isolazi run --rootless alpine whoami", "root\n")?;
    let mapped = "isolazi run --rootless --uid-map 0:1000:1 --gid-map 0:1000:1 alpine id";
    user.sees(mapped, "uid=0(root) gid=0(root)")
}

fn containers_are_managed(user: &Newcomer) -> Result<()> {
    user.does("isolazi create --name myapp alpine")?;
    user.sees("isolazi ps -a", "myapp")?;
    user.sees("isolazi start myapp", "myapp\n")?;
    user.sees("isolazi stop myapp", "myapp\n")?;
    user.sees("isolazi inspect myapp", "\"Name\": \"myapp\"")?;
    user.sees("isolazi rm myapp", "myapp\n")?;
    user.does("isolazi create --name myapp alpine sleep 300")?;
    user.does("isolazi start myapp")?;
    user.sees("isolazi rm -f myapp", "myapp\n")?;
    let listed = user.does("isolazi ps -a")?;
    ensure!(!listed.contains("myapp"), "{listed}");
    Ok(())
}

fn commands_run_in_containers(user: &Newcomer) -> Result<()> {
    let id = user.does("isolazi ps -q | head -n 1")?;
    let typed = |line: &str| line.replace("<container_id>", id.trim());
    let mut shell = user
        .types(&typed("isolazi exec -it <container_id> /bin/sh"))?
        .on_terminal(24, 80)?;
    shell.type_in("echo in $((20 + 22)); exit\n")?;
    shell.wait_for("in 42")?;
    ensure!(shell.wait()?.success(), "{}", shell.shown());
    for (line, text) in [
        ("isolazi exec <container_id> ls -la /", " bin\n"),
        (
            "isolazi exec -e MYVAR=value <container_id> env",
            "MYVAR=value\n",
        ),
        (
            "isolazi exec -u nobody <container_id> id",
            "uid=65534(nobody)",
        ),
        ("isolazi exec -w /tmp <container_id> pwd", "/tmp\n"),
    ] {
        user.sees(&typed(line), text)?;
    }
    user.does(&typed("isolazi exec -d <container_id> sleep 100"))?;
    user.sees(&typed("isolazi exec <container_id> ps"), "sleep 100")
}

fn images_are_managed(user: &Newcomer) -> Result<()> {
    user.does("isolazi pull docker.io/library/nginx:latest")?;
    user.does("isolazi pull ghcr.io/owner/repo:tag")?;
    let images = user.does("isolazi images")?;
    for name in ["alpine", "nginx", "ghcr.io/owner/repo"] {
        images
            .lines()
            .find(|line| line.starts_with(name))
            .context(name)?;
    }
    user.sees("isolazi prune", "Total reclaimed space")?;
    let images = user.does("isolazi images")?;
    ensure!(images.contains("alpine"), "a container has it: {images}");
    ensure!(!images.contains("ghcr.io"), "nobody has it: {images}");
    user.sees("isolazi version", "isolazi")?;
    user.sees("isolazi help", "Usage:")
}
