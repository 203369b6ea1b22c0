//! A user without rights on this machine, who exists for a case only: the program runs in
//! a mount namespace of its own, in which /etc/passwd and the files of subordinate ids
//! are ours.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::Invocation;
use crate::world::World;

/// Its id, and that of its group.
pub const USER: u32 = 64321;
/// The first of its subordinate ids.
pub const FIRST: u32 = 700_000;

/// Binds the user's own files over the machine's, and goes on as the user.
const BECOME: &str = "for name in passwd subuid subgid; do \
    mount --bind \"$0/etc/$name\" /etc/$name || exit 99; done; \
    exec setpriv --reuid=64321 --regid=64321 --clear-groups \"$@\"";

/// The user, and all that is the user's.
#[derive(Debug)]
pub struct Ordinary {
    folder: tempfile::TempDir,
    /// Its copy of the program under test.
    pub program: PathBuf,
}

impl Ordinary {
    /// With 65536 subordinate ids.
    pub fn new(world: &World) -> Result<Self> {
        Self::with_ids(world, &format!("tester:{FIRST}:65536\n"))
    }

    /// With what the files of subordinate ids say.
    pub fn with_ids(world: &World, ids: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("isolazi-rootless-")
            .tempdir()?;
        let at = folder.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
        let program = at.join("isolazi");
        fs::copy(&world.shared().program, &program)?;
        fs::create_dir(at.join("etc"))?;
        let users = fs::read_to_string("/etc/passwd")?;
        let line = format!("tester:x:{USER}:{USER}::{}:/bin/sh\n", at.display());
        fs::write(at.join("etc/passwd"), users + &line)?;
        fs::write(at.join("etc/subuid"), ids)?;
        fs::write(at.join("etc/subgid"), ids)?;
        fs::create_dir(at.join("shared"))?;
        for place in [at.to_owned(), at.join("shared")] {
            chown(place, Some(USER), Some(USER))?;
        }
        Ok(Self { folder, program })
    }

    /// Its home.
    pub fn at(&self) -> &Path {
        self.folder.path()
    }

    /// `isolazi ARGS` as the user, with `before` run as root before that.
    pub fn prepared(&self, before: &str, args: &[&str]) -> Invocation {
        Invocation::new(&self.program, Duration::from_secs(60))
            .args(args)
            .env("HOME", self.at())
            .env_remove("ISOLAZI_HOME")
            .env_remove("ISOLAZI_VM")
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(self.at())
            .through(
                "unshare",
                &[
                    "--mount",
                    "sh",
                    "-c",
                    &format!("{before}{BECOME}"),
                    &self.at().to_string_lossy(),
                ],
            )
    }

    /// `isolazi ARGS` as the user.
    pub fn isolazi(&self, args: &[&str]) -> Invocation {
        self.prepared("", args)
    }

    /// `isolazi run --rm OPTIONS` of busybox with a shell script.
    pub fn run(&self, world: &World, options: &[&str], script: &str) -> Invocation {
        let image = world.busybox();
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend([image.as_str(), "sh", "-c", script]);
        self.isolazi(&args)
    }

    /// What is known of the user's namespaces.
    pub fn keeper(&self) -> Result<Value> {
        let text = fs::read(self.at().join(".isolazi/rootless/keeper.json"))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Who holds them.
    pub fn keeper_pid(&self) -> Result<i32> {
        let pid = self.keeper()?["keeper"]["pid"].as_i64();
        Ok(i32::try_from(pid.context("the keeper's pid")?)?)
    }

    /// How many hold some.
    pub fn keepers(&self) -> Result<usize> {
        self.processes("isolazi-keeper")
    }

    /// How many bind ports for them.
    pub fn brokers(&self) -> Result<usize> {
        self.processes("isolazi-ports")
    }

    /// How many there are of this name: their command lines have the data root.
    fn processes(&self, name: &str) -> Result<usize> {
        let root = self.at().join(".isolazi");
        let wanted: Vec<u8> = [
            name.as_bytes(),
            b"\0",
            root.as_os_str().as_encoded_bytes(),
            b"\0",
        ]
        .concat();
        let mut count = 0;
        for entry in fs::read_dir("/proc")? {
            let command = fs::read(entry?.path().join("cmdline"));
            count += usize::from(command.is_ok_and(|it| it.starts_with(&wanted)));
        }
        Ok(count)
    }
}
