//! podman with a storage of its own, on runc, with limits that any root may set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::tool;
use isolazi_tests::fixture::find;

use crate::measure::time;

/// podman raises limits that root may not be allowed to raise.
const CONFIG: &str = "[containers]\n\
                      default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";

/// Takes its containers and its storage away with it.
pub(crate) struct Podman {
    folder: PathBuf,
}

impl Podman {
    /// podman in `folder`, which is made.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        for program in ["podman", "runc", "conmon"] {
            ensure!(find(program).is_some(), "{program} is not installed");
        }
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("containers.conf"), CONFIG)?;
        Ok(Self { folder })
    }

    /// `podman ARGS`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut podman = Command::new("podman");
        podman.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        podman.arg("--root").arg(self.folder.join("root"));
        podman.arg("--runroot").arg(self.folder.join("run"));
        podman.args(["--storage-driver", "overlay", "--runtime", "runc"]);
        podman.args(args);
        podman
    }

    /// An image of one file, `name`, in its root: `program`.
    pub(crate) fn import(&self, program: &Path, name: &str) -> Result<String> {
        let root = self.folder.join("image");
        fs::create_dir_all(&root)?;
        fs::copy(program, root.join(name)).context("cannot copy the program")?;
        let archive = self.folder.join("image.tar");
        let (archive, root) = (archive.as_os_str(), root.as_os_str());
        tool(
            "tar",
            ["-cf".as_ref(), archive, "-C".as_ref(), root, ".".as_ref()],
        )?;
        let reference = format!("localhost/bench-{name}:1");
        let mut import = self.command(&["import", "--quiet"]);
        time(import.arg(archive).arg(&reference))?;
        Ok(reference)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(
            self.command(&["rm", "--all", "--force", "--time", "0"])
                .output(),
        );
        // It leaves a mount of its storage on itself.
        let overlay = self.folder.join("root/overlay");
        drop(tool("umount", ["-q".as_ref(), overlay.as_os_str()]));
    }
}
