//! What only Debian's kernel and systemd have: scopes of systemd's, for root and for
//! users, and AppArmor.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::{eventually, same, tool};
use isolazi_tests::ordinary::{Ordinary, USER};
use isolazi_tests::{Case, Container, Invocation, World};
use serde_json::Value;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        DebianOnly: [
            containers_are_in_scopes_of_systemd,
            a_scope_is_in_the_slice_that_is_asked_for,
            systemd_keeps_its_hands_off_containers,
            a_users_systemd_delegates_limits,
            what_is_not_delegated_is_named,
            an_apparmor_profile_confines,
            a_profile_that_is_not_loaded_is_told_of,
        ],
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the cgroup that a process is in.
fn group_of(pid: &Value) -> Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = groups.trim().strip_prefix("0::/");
    let path = path.with_context(|| format!("not version 2: {groups}"))?;
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

fn group(container: &Container<'_>) -> Result<PathBuf> {
    group_of(&container.inspect()?["State"]["Pid"])
}

fn limit(group: &Path, name: &str) -> Result<String> {
    let file = group.join(name);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// What `has_limits` looks for.
const LIMITS: [&str; 6] = ["-m", "64m", "--pids-limit", "77", "--cpus", "0.5"];

fn has_limits(group: &Path) -> Result<()> {
    for (file, value) in [
        ("memory.max", "67108864"),
        ("pids.max", "77"),
        ("cpu.max", "50000 100000"),
    ] {
        same(file, &limit(group, file)?.as_str(), &value)?;
    }
    Ok(())
}

fn containers_are_in_scopes_of_systemd(world: &World) -> Result<()> {
    let container = world.start(&LIMITS, &["sleep", "1000"])?;
    let group = group(&container)?;
    let id = container.inspect()?["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let scope = group.ancestors().nth(2).context("a scope")?.to_owned();
    let name = scope
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ensure!(
        scope.starts_with("/sys/fs/cgroup/system.slice")
            && name.starts_with(&format!("isolazi-{}", &id[..12]))
            && name.ends_with(".scope"),
        "{}",
        group.display()
    );
    has_limits(&group)?;
    let shown = tool("systemctl", ["show", "-p", "Delegate,ActiveState", &name])?;
    ensure!(
        shown.contains("Delegate=yes") && shown.contains("ActiveState=active"),
        "{shown}"
    );
    drop(container);
    eventually(PATIENCE, "the scope goes", || {
        let shown = tool("systemctl", ["show", "-p", "ActiveState", &name])?;
        Ok((shown.contains("inactive") && !scope.exists()).then_some(()))
    })
}

fn a_scope_is_in_the_slice_that_is_asked_for(world: &World) -> Result<()> {
    let asked = ["--cgroup-parent", "isolazi-tests.slice"];
    let container = world.start(&asked, &["sleep", "1000"])?;
    let group = group(&container)?;
    let slice = "/sys/fs/cgroup/isolazi.slice/isolazi-tests.slice";
    ensure!(group.starts_with(slice), "{}", group.display());
    Ok(())
}

fn systemd_keeps_its_hands_off_containers(world: &World) -> Result<()> {
    let container = world.start(&["-m", "64m"], &["sleep", "1000"])?;
    let before = group(&container)?;
    tool("systemctl", ["daemon-reload"])?;
    same("its group", &group(&container)?, &before)?;
    let memory = || limit(&before, "memory.max");
    same("its limit", &memory()?, &(64 << 20).to_string())?;
    let update = world.isolazi(["update", "-m", "96m", container.name()]);
    update.output()?.success()?;
    same("its new limit", &memory()?, &(96 << 20).to_string())?;
    world
        .isolazi(["pause", container.name()])
        .output()?
        .success()?;
    same(
        "it is frozen",
        &limit(&before, "cgroup.freeze")?,
        &"1".to_owned(),
    )?;
    world
        .isolazi(["unpause", container.name()])
        .output()?
        .success()?;
    Ok(())
}

/// `isolazi ARGS` as a user with a systemd of its own.
fn in_session(user: &Ordinary, args: &[&str]) -> Invocation {
    let command = user.isolazi(args).timeout(PATIENCE * 2);
    command.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"))
}

fn with_session(world: &World) -> Result<Ordinary> {
    tool("systemctl", ["start", &format!("user@{USER}.service")])?;
    Ordinary::new(world)
}

fn a_users_systemd_delegates_limits(world: &World) -> Result<()> {
    let user = with_session(world)?;
    let image = world.busybox();
    let begin = ["run", "-d", "--name", "it"];
    let sleep = [image.as_str(), "sleep", "1000"];
    in_session(&user, &[&begin[..], &LIMITS, &sleep].concat())
        .output()?
        .success()?;
    let pid = in_session(&user, &["inspect", "--format", "{{.State.Pid}}", "it"]);
    let pid: Value = pid.output()?.success()?.stdout_text().trim().parse()?;
    let group = group_of(&pid)?;
    let own = format!("/sys/fs/cgroup/user.slice/user-{USER}.slice/user@{USER}.service");
    ensure!(group.starts_with(own), "{}", group.display());
    has_limits(&group)?;
    let inside = in_session(&user, &["exec", "it", "cat", "/sys/fs/cgroup/memory.max"]);
    inside.output()?.success()?.stdout_is("67108864\n")?;
    in_session(&user, &["pause", "it"]).output()?.success()?;
    same(
        "it is frozen",
        &limit(&group, "cgroup.freeze")?,
        &"1".to_owned(),
    )?;
    in_session(&user, &["unpause", "it"]).output()?.success()?;
    in_session(&user, &["stats", "--no-stream", "it"])
        .output()?
        .success()?
        .stdout_has("64MiB")?;
    let greedy = "exec tail /dev/zero";
    let greedy = [
        "run", "--name", "big", "-m", "16m", &image, "sh", "-c", greedy,
    ];
    in_session(&user, &greedy).output()?.code(137)?;
    let killed = in_session(
        &user,
        &["inspect", "--format", "{{.State.OOMKilled}}", "big"],
    );
    killed.output()?.success()?.stdout_is("true\n")?;
    in_session(&user, &["rm", "-f", "it", "big"])
        .output()?
        .success()?;
    eventually(PATIENCE, "its group goes", || {
        Ok((!group.exists()).then_some(()))
    })
}

fn what_is_not_delegated_is_named(world: &World) -> Result<()> {
    let user = with_session(world)?;
    let image = world.busybox();
    in_session(&user, &["pull", "-q", &image])
        .output()?
        .success()?;
    in_session(&user, &["run", "--rm", &image, "true"])
        .output()?
        .success()?;
    let pinned = ["run", "--rm", "--cpuset-cpus", "0", &image, "true"];
    let refused = in_session(&user, &pinned).output()?;
    let refused = refused.fails_with(125, "not given the cpuset controller")?;
    refused.has_one_complaint()?;
    Ok(())
}

/// All but writing below /tmp/closed.
const PROFILE: &str = "profile isolazi-tests flags=(attach_disconnected,mediate_deleted) {\n\
    capability,\n network,\n signal,\n ptrace,\n mount,\n umount,\n pivot_root,\n file,\n\
    deny /tmp/closed/** w,\n}\n";

fn an_apparmor_profile_confines(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let file = folder.path().join("profile");
    fs::write(&file, PROFILE)?;
    tool("apparmor_parser", [Path::new("-rK"), &file])?;
    let script = "cat /proc/self/attr/current; mkdir -p /tmp/closed && touch /tmp/open && echo open; \
                  touch /tmp/closed/x 2>/dev/null || echo closed; sleep 1000";
    let option = ["--security-opt", "apparmor=isolazi-tests"];
    let container = world.start(&option, &["sh", "-c", script])?;
    container.wait_log("closed")?;
    let logs = world
        .isolazi(["logs", container.name()])
        .output()?
        .success()?;
    logs.stdout_is("isolazi-tests (enforce)\nopen\nclosed\n")?;
    let exec = container.exec(
        &[],
        &[
            "sh",
            "-c",
            "cat /proc/self/attr/current; touch /tmp/closed/y",
        ],
    );
    let exec = exec.output()?.stdout_is("isolazi-tests (enforce)\n")?;
    exec.stderr_has("/tmp/closed/y: Permission denied")?;
    let free = world.run(["cat", "/proc/self/attr/current"]).output()?;
    free.success()?.stdout_is("unconfined\n")?;
    Ok(())
}

fn a_profile_that_is_not_loaded_is_told_of(world: &World) -> Result<()> {
    let refused = world
        .run_with(&["--security-opt", "apparmor=nowhere"], ["true"])
        .output()?;
    let refused = refused.fails_with(125, "AppArmor profile nowhere is not loaded")?;
    refused.has_one_complaint()?;
    Ok(())
}
