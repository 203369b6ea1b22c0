//! How a profile is chosen, and the other options of `--security-opt`.

use std::path::Path;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};
use serde_json::{Value, json};

use super::isolation;

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            profiles_are_chosen_in_several_ways,
            set_user_id_programs_work_where_they_may,
            system_paths_can_be_left_as_they_are,
            other_security_options_are_refused_or_harmless,
        ],
    }
}

/// `Seccomp` and `NoNewPrivs` of a process in a container with these options.
fn status(world: &World, options: &[&str]) -> Result<(String, String)> {
    let mut status = isolation::status(world, options)?;
    let mut value = |key: &str| status.remove(key).unwrap_or_default();
    Ok((value("Seccomp"), value("NoNewPrivs")))
}

fn profiles_are_chosen_in_several_ways(world: &World) -> Result<()> {
    for options in [
        &["--seccomp", "disabled"][..],
        &["--no-seccomp"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", "seccomp:unconfined"],
    ] {
        same(
            "Seccomp",
            &status(world, options)?,
            &("0".to_owned(), "1".to_owned()),
        )?;
    }
    for options in [
        &["--seccomp", "minimal"][..],
        &["--security-opt", "seccomp=strict"],
    ] {
        same(
            "Seccomp",
            &status(world, options)?,
            &("2".to_owned(), "1".to_owned()),
        )?;
    }
    let shown = |options: &[&str]| -> Result<Value> {
        let container = world.start(options, &["sleep", "1000"])?;
        Ok(container.inspect()?["HostConfig"]["SecurityOpt"].clone())
    };
    same("SecurityOpt", &shown(&[])?, &Value::Null)?;
    let options = [
        "--seccomp",
        "strict",
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "label:disable",
    ];
    let expected = json!(["no-new-privileges", "label=disable", "seccomp=strict"]);
    same("SecurityOpt", &shown(&options)?, &expected)?;
    let two = world.run_with(&["--seccomp", "strict", "--no-seccomp"], ["true"]);
    two.output()?.fails_with(125, "two seccomp profiles")?;
    Ok(())
}

/// `/proc/self/status` fields that must not depend on how the filter came in.
const CAPABILITIES: &str = "grep -E '^Cap(Prm|Eff|Bnd|Inh|Amb):' /proc/self/status";

fn set_user_id_programs_work_where_they_may(world: &World) -> Result<()> {
    let may = ["--security-opt", "no-new-privileges=false"];
    let script = "cp /bin/probe /tmp/probe && chmod 4755 /tmp/probe && chmod 755 /tmp && su -s /tmp/probe alice users";
    let output = world
        .run_with(&may, ["sh", "-c", script])
        .output()?
        .success()?;
    output.stdout_is("users: 1000\t0\t0\t0\n")?;
    // It is filtered all the same, and root is no mightier for it.
    same(
        "status",
        &status(world, &may)?,
        &("2".to_owned(), "0".to_owned()),
    )?;
    let strict = [&may[..], &["--seccomp", "strict"]].concat();
    same(
        "status",
        &status(world, &strict)?,
        &("2".to_owned(), "0".to_owned()),
    )?;
    for user in ["root", "alice"] {
        let capabilities = |more: &[&str]| -> Result<String> {
            let options = [&["-u", user], more].concat();
            let output = world
                .run_with(&options, ["sh", "-c", CAPABILITIES])
                .output()?;
            Ok(output.success()?.stdout_text())
        };
        same(user, &capabilities(&strict)?, &capabilities(&[])?)?;
        let init = [&may[..], &["--init"]].concat();
        same(user, &capabilities(&init)?, &capabilities(&[])?)?;
    }
    let container = world.start(&may, &["sleep", "1000"])?;
    let script = "cp /bin/probe /tmp/probe && chmod 4755 /tmp/probe";
    container
        .exec(&[], &["sh", "-c", script])
        .output()?
        .success()?;
    let output = container
        .exec(&["-u", "alice"], &["/tmp/probe", "users"])
        .output()?;
    output.success()?.stdout_is("users: 1000\t0\t0\t0\n")?;
    Ok(())
}

fn system_paths_can_be_left_as_they_are(world: &World) -> Result<()> {
    let script = "grep -c -E ' /proc/[^ ]+ (tmpfs|proc|devtmpfs) ' /proc/mounts";
    let masked = |options: &[&str]| -> Result<u32> {
        let output = world.run_with(options, ["sh", "-c", script]).output()?;
        let text = output.stdout_text();
        Ok(text.lines().next().unwrap_or_default().parse()?)
    };
    ensure!(masked(&[])? >= 5, "little is masked by default");
    let options = ["--security-opt", "systempaths=unconfined"];
    same("masks", &masked(&options)?, &0)?;
    // procfs itself is writable then, as far as root's capabilities go.
    let write = [
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward",
    ];
    let by_default = world.run_with(&[], write).output()?;
    by_default.stderr_has("Read-only file system")?;
    let output = world.run_with(&options, write).output()?;
    ensure!(
        !output.stderr_text().contains("Read-only"),
        "{}",
        output.complaint("read-only")
    );
    Ok(())
}

fn other_security_options_are_refused_or_harmless(world: &World) -> Result<()> {
    for harmless in [
        "apparmor=unconfined",
        "label=disable",
        "no-new-privileges:true",
    ] {
        world
            .run_with(&["--security-opt", harmless], ["true"])
            .output()?
            .success()?;
    }
    for (bad, complaint) in [
        ("nope=1", "security option"),
        ("seccomp", "security option"),
        ("no-new-privileges=perhaps", "security option"),
        ("label=colour:red", "label"),
    ] {
        let output = world
            .run_with(&["--security-opt", bad], ["true"])
            .output()?;
        output.fails_with(125, complaint)?.has_one_complaint()?;
    }
    let module = |path: &str| !world.is_vm() && Path::new(path).exists();
    if !module("/sys/module/apparmor") {
        let container = world.container();
        let run = world.isolazi([
            "run",
            "--name",
            container.name(),
            "--security-opt",
            "apparmor=mine",
        ]);
        let output = run.args([world.busybox(), "true".to_owned()]).output()?;
        output.fails_with(125, "AppArmor")?.has_one_complaint()?;
        ensure!(!container.is_listed()?, "something was made");
    }
    if !module("/sys/fs/selinux/enforce") {
        let output = world
            .run_with(&["--security-opt", "label=type:mine_t"], ["true"])
            .output()?;
        output.fails_with(125, "SELinux")?.has_one_complaint()?;
    }
    Ok(())
}
