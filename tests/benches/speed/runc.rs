//! runc, with the same root and the same system-call filter.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use isolazi_tests::command::tool;
use isolazi_tests::{Invocation, World};
use serde_json::{Value, json};

/// A bundle of one program, `/true`, with our default profile in runc's own
/// configuration, but for limits that it may not be allowed to raise.
pub(crate) struct Bundle {
    folder: PathBuf,
    state: PathBuf,
    runs: usize,
}

impl Bundle {
    /// Below `folder`; `world` tells the profile.
    pub(crate) fn new(folder: &Path, program: &Path, world: &World) -> Result<Self> {
        let bundle = Self {
            folder: folder.join("bundle"),
            state: folder.join("runc"),
            runs: 0,
        };
        let root = bundle.folder.join("rootfs");
        fs::create_dir_all(&root)?;
        fs::copy(program, root.join("true"))?;
        fs::set_permissions(root.join("true"), fs::Permissions::from_mode(0o755))?;
        Invocation::new("runc", Duration::from_secs(30))
            .args(["spec"])
            .current_dir(&bundle.folder)
            .output()?
            .success()?;
        let shown = world.isolazi(["seccomp", "show", "default"]).output()?;
        let profile = shown.success()?.json()?;
        bundle.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["/true"]);
            config["linux"]["seccomp"] = profile;
            if let Some(process) = config["process"].as_object_mut() {
                process.remove("rlimits");
            }
        })?;
        // Warms the disk's cache.
        tool("sync", [""; 0])?;
        Ok(bundle)
    }

    /// Has the container run `words`.
    pub(crate) fn set_command(&self, words: &[String]) -> Result<()> {
        self.change(|config| config["process"]["args"] = json!(words))
    }

    fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let file = self.folder.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        change(&mut config);
        Ok(fs::write(&file, config.to_string())?)
    }

    /// `runc run`, under a name that is not used twice.
    pub(crate) fn run(&mut self) -> Command {
        self.runs += 1;
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(&self.state).arg("run");
        runc.arg("--bundle").arg(&self.folder);
        runc.arg(format!("bench-{}", self.runs));
        runc
    }
}
