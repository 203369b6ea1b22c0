//! What an image's configuration says is honoured, and options win over it.

use anyhow::Result;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            an_images_configuration_is_honoured,
            a_command_replaces_the_images,
            options_win_over_the_image,
            an_image_without_a_command_says_so,
        ],
    }
}

fn an_images_configuration_is_honoured(world: &World) -> Result<()> {
    let output = world
        .isolazi(["run", "--rm", &world.image("configured")])
        .output()?;
    output.success()?.stdout_is(
        "args=from the image\n\
         user=1000:1001 groups=1001\n\
         cwd=/srv/made/for/it\n\
         greeting=hello, world home=/home/alice\n",
    )?;
    Ok(())
}

fn a_command_replaces_the_images(world: &World) -> Result<()> {
    let image = world.image("configured");
    let output = world
        .isolazi(["run", "--rm", &image, "--flag", "of its own"])
        .output()?;
    output.success()?.stdout_has("args=--flag of its own\n")?;
    Ok(())
}

fn options_win_over_the_image(world: &World) -> Result<()> {
    let image = world.image("configured");
    let output = world
        .isolazi([
            "run",
            "--rm",
            "-u",
            "0",
            "-w",
            "/tmp",
            "-e",
            "GREETING=bye",
            &image,
            "x",
        ])
        .output()?;
    output
        .success()?
        .stdout_is("args=x\nuser=0:0 groups=0\ncwd=/tmp\ngreeting=bye home=/root\n")?;
    Ok(())
}

fn an_image_without_a_command_says_so(world: &World) -> Result<()> {
    let image = world.busybox();
    let output = world
        .isolazi(["run", "--rm", "--entrypoint", "", &image])
        .output()?;
    output.fails_with(125, "command")?;
    Ok(())
}
