//! One reference, several platforms.

use anyhow::Result;
use isolazi_tests::handmade::architecture;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            the_machines_own_platform_is_the_default,
            a_platform_can_be_chosen,
            a_platform_that_is_not_there_is_named,
        ],
    }
}

fn the_machines_own_platform_is_the_default(world: &World) -> Result<()> {
    let image = world.image("multi");
    let output = world
        .isolazi(["run", "--rm", &image, "cat", "/etc/variant"])
        .output()?;
    output
        .success()?
        .stdout_is(&format!("{}\n", architecture()))?;
    Ok(())
}

fn a_platform_can_be_chosen(world: &World) -> Result<()> {
    // Only the label differs: the programs in it are this machine's.
    let image = world.image("multi");
    for platform in ["arm64", "s390x", "amd64"] {
        let output = world
            .isolazi([
                "run",
                "--rm",
                "--platform",
                &format!("linux/{platform}"),
                &image,
            ])
            .args(["cat", "/etc/variant"])
            .output()?;
        output.success()?.stdout_is(&format!("{platform}\n"))?;
    }
    Ok(())
}

fn a_platform_that_is_not_there_is_named(world: &World) -> Result<()> {
    let image = world.image("multi");
    let output = world
        .isolazi(["pull", "--platform", "linux/riscv64", &image])
        .output()?;
    output.fails_with(1, "linux/riscv64")?;
    let output = world
        .isolazi(["pull", "--platform", "not a platform", &image])
        .output()?;
    output.fails_with(1, "not a platform")?;
    Ok(())
}
