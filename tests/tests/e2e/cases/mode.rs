//! How a mode is chosen, and what holds for the command line as a whole.

use anyhow::Result;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            version_and_help,
            the_data_root_can_be_an_option,
            unknown_options_and_verbs_are_refused,
        ],
        VmOnly: [
            the_vm_option_may_stand_anywhere,
            the_environment_can_choose_the_vm,
        ],
    }
}

fn version_and_help(world: &World) -> Result<()> {
    world
        .isolazi(["version"])
        .output()?
        .success()?
        .stdout_has("0.1.0")?;
    world
        .isolazi(["--version"])
        .output()?
        .success()?
        .stdout_has("0.1.0")?;
    let help = world.isolazi(["--help"]).output()?.success()?;
    for verb in [
        "run", "exec", "ps", "logs", "stop", "rm", "inspect", "pull", "images", "vm",
    ] {
        world
            .isolazi([verb, "--help"])
            .output()?
            .success()?
            .stdout_has("Usage")?;
    }
    help.stdout_has("run")?;
    Ok(())
}

fn the_data_root_can_be_an_option(world: &World) -> Result<()> {
    let root = world.root().display().to_string();
    let output = world
        .isolazi(["--root", &root, "images"])
        .env_remove("ISOLAZI_HOME")
        .output()?;
    output.success()?.stdout_has("busybox")?;
    let empty = world.temp()?;
    let empty = empty.path().display().to_string();
    let output = world.isolazi(["images", "--root", &empty]).output()?;
    output.success()?.stdout_lacks("busybox")?;
    Ok(())
}

fn unknown_options_and_verbs_are_refused(world: &World) -> Result<()> {
    world
        .isolazi(["fly"])
        .output()?
        .code(2)?
        .stderr_has("fly")?;
    world
        .isolazi(["run", "--no-such-option", "x"])
        .output()?
        .code(2)?
        .stderr_has("--no-such-option")?;
    world
        .isolazi(["run"])
        .output()?
        .code(2)?
        .stderr_has("image")?;
    Ok(())
}

fn the_vm_option_may_stand_anywhere(world: &World) -> Result<()> {
    let image = world.busybox();
    let inside = world
        .run(["uname", "-r"])
        .output()?
        .success()?
        .stdout_text();
    for args in [
        ["--vm", "run", "--rm", &image, "uname", "-r"],
        ["run", "--vm", "--rm", &image, "uname", "-r"],
        ["run", "--rm", "--vm", &image, "uname", "-r"],
    ] {
        world.bare(args).output()?.success()?.stdout_is(&inside)?;
    }
    Ok(())
}

fn the_environment_can_choose_the_vm(world: &World) -> Result<()> {
    let image = world.busybox();
    let run = ["run", "--rm", &image, "uname", "-r"];
    let inside = world
        .run(["uname", "-r"])
        .output()?
        .success()?
        .stdout_text();
    for value in ["1", "true", "yes"] {
        world
            .bare(run)
            .env("ISOLAZI_VM", value)
            .output()?
            .success()?
            .stdout_is(&inside)?;
    }
    Ok(())
}
