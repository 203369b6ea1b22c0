//! A guest that somebody has taken over, and what it gets out of the host: its disk is
//! changed by a container that may do everything in there.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::eventually;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        VmAlone: [
            changed_records_get_nothing_of_the_host,
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

/// Containers mount and publish what their records say, which lie on the guest's disk.
/// What the user has not let the machine have before, it does not get for that.
fn changed_records_get_nothing_of_the_host(world: &World) -> Result<()> {
    let folder = world.temp()?;
    let (given, secret) = (folder.path().join("given"), folder.path().join("hosts"));
    for (path, content) in [(&given, "was given\n"), (&secret, "a secret\n")] {
        fs::create_dir(path)?;
        fs::write(path.join("file"), content)?;
    }
    let (published, other) = (free_port()?, free_port()?);
    let mount = format!("{}:/mnt", given.display());
    let port = format!("127.0.0.1:{published}:80");
    let options = ["--restart", "always", "-v", &mount, "-p", &port];
    let script = "cat /mnt/file; echo 1 > /mnt/new; sleep 1000";
    let container = world.start(&options, &["sh", "-c", script])?;
    container.wait_log("was given\n")?;
    boot_again(world)?;
    // What is in order comes back, with its folder and its port.
    container.wait_log("was given\nwas given\n")?;
    let listens = |port| Ok(TcpStream::connect(("127.0.0.1", port)).ok());
    eventually(PATIENCE, "its port is published again", || {
        listens(published)
    })?;

    let (from, to) = (given.display(), secret.display());
    let change = format!(
        "mkdir /disk && mount /dev/vda /disk && cd /disk/containers && \
         sed -i 's#{from}#{to}#g; s#:{published}\\b#:{other}#g' */config.json && \
         grep -l '{to}' */config.json && grep -l ':{other}' */config.json"
    );
    let changed = world.run_with(&["--privileged"], ["sh", "-c", &change]);
    changed.output()?.success()?.stdout_has("/config.json")?;
    boot_again(world)?;
    let start = || world.isolazi(["start", container.name()]).output();
    start()?
        .fails_with(1, "has not been shared with the machine")?
        .stderr_has(&secret.display().to_string())?;
    let said = world.isolazi(["logs", container.name()]).output()?;
    let said = said.success()?.stdout_text();
    ensure!(!said.contains("secret"), "it got the folder: {said}");
    ensure!(!secret.join("new").exists(), "it could write there");

    // With its folder back it is the port that is refused.
    let back = change.replace(&format!("s#{from}#{to}#g"), &format!("s#{to}#{from}#g"));
    let back = back.replace(&format!("grep -l '{to}' */config.json &&"), "");
    let changed = world.run_with(&["--privileged"], ["sh", "-c", &back]);
    changed.output()?.success()?;
    start()?.fails_with(
        1,
        &format!("port {other} of the host has not been published"),
    )?;
    ensure!(listens(other)?.is_none(), "the port is published");
    // Nor where nobody starts it but the machine.
    boot_again(world)?;
    container.wait_log("was given\nwas given\nwas given\n")?;
    let log = world.root().join("machine/supervisor.log");
    let refused = || {
        Ok(fs::read_to_string(&log)?
            .contains("not been published")
            .then_some(()))
    };
    eventually(PATIENCE, "the port is refused", refused)?;
    ensure!(listens(other)?.is_none(), "the port is published");
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
