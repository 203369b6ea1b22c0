//! `system df`: what takes space.

use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::eventually;
use isolazi_tests::{Case, World};

use super::named_volumes::Volume;

pub(super) fn all() -> Vec<Case> {
    super::cases! { Both: [what_volumes_take_is_told] }
}

fn what_volumes_take_is_told(world: &World) -> Result<()> {
    let volume = Volume::of(world, "measured");
    let mount = volume.at("/v");
    let write = "head -c 3000000 /dev/zero >/v/file; exec sleep 1000";
    let container = world.start(&["-v", &mount], &["sh", "-c", write])?;
    eventually(Duration::from_secs(20), "it is written", || {
        let length = container.exec(&[], &["stat", "-c", "%s", "/v/file"]);
        Ok((length.output()?.stdout_text() == "3000000\n").then_some(()))
    })?;
    // Other cases have volumes, too.
    let df = world.isolazi(["system", "df"]).output()?.success()?;
    let text = df.stdout_text();
    let line = text.lines().find_map(|it| it.strip_prefix("Local Volumes"));
    let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    let [total, active, size, ..] = words[..] else {
        anyhow::bail!("{text}");
    };
    let (total, active): (u32, u32) = (total.parse()?, active.parse()?);
    ensure!(total >= active && active >= 1, "{text}");
    ensure!(size.ends_with("MB") || size.ends_with("GB"), "{text}");
    Ok(())
}
