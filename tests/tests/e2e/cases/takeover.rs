//! A guest that somebody has taken over, and what it gets out of the host: its disk is
//! changed by a container that may do everything in there.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmAlone: [
            a_changed_record_gets_no_other_folder,
        ],
    }
}

/// For a boot under emulation.
const PATIENCE: Duration = Duration::from_secs(180);

fn boot_again(world: &World) -> Result<()> {
    for verb in ["stop", "start"] {
        let vm = world.bare(["vm", verb]).timeout(PATIENCE);
        vm.output()?.success()?;
    }
    Ok(())
}

/// Containers mount what their records say, which lie on the guest's disk. What the user
/// has not shared before is not shared because they say so.
fn a_changed_record_gets_no_other_folder(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let (given, secret) = (folder.path().join("given"), folder.path().join("hosts"));
    for (path, content) in [(&given, "was given\n"), (&secret, "a secret\n")] {
        fs::create_dir(path)?;
        fs::write(path.join("file"), content)?;
    }
    let mount = format!("{}:/mnt", given.display());
    let options = ["--restart", "always", "-v", &mount];
    let script = "cat /mnt/file; echo 1 > /mnt/new; sleep 1000";
    let container = world.start(&options, &["sh", "-c", script])?;
    container.wait_log("was given\n")?;
    boot_again(world)?;
    // What is in order comes back, with its folder.
    container.wait_log("was given\nwas given\n")?;

    let change = format!(
        "mkdir /disk && mount /dev/vda /disk && cd /disk/containers && \
         sed -i 's#{}#{}#g' */config.json && grep -l '{}' */config.json",
        given.display(),
        secret.display(),
        secret.display(),
    );
    let changed = world.run_with(&["--privileged"], ["sh", "-c", &change]);
    changed.output()?.success()?.stdout_has("/config.json")?;
    boot_again(world)?;
    let start = world.isolazi(["start", container.name()]).output()?;
    start
        .fails_with(1, "has not been shared with the machine")?
        .stderr_has(&secret.display().to_string())?;
    let logs = world.isolazi(["logs", container.name()]).output()?;
    let said = logs.success()?.stdout_text();
    ensure!(!said.contains("secret"), "it got the folder: {said}");
    ensure!(!secret.join("new").exists(), "it could write there");
    Ok(())
}
