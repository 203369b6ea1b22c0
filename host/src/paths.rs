//! Where isolazi keeps its data.
//!
//! ```text
//! ~/.isolazi/                     --root DIR or ISOLAZI_HOME moves it
//! ├── config.toml                 the user's settings
//! ├── images/
//! │   ├── blobs/sha256/<hex>      content-addressed, as pulled
//! │   └── manifests/<registry>/<repository>/<tag>.json
//! ├── layers/sha256/<hex>/        unpacked layers (native engine)
//! ├── containers/<id>/            config, state, logs, changes (native engine)
//! └── machine/                    disk, sockets, console of the VM
//! ```

use std::path::{Path, PathBuf};

/// The disk's file, in the machine's folder.
pub const DISK: &str = "data.img";

/// The data root and the places below it. Creates nothing.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Paths below `root`, which must be absolute.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// `~/.isolazi`, or `None` where the user has no home folder.
    pub fn default_root() -> Option<PathBuf> {
        Some(dirs::home_dir()?.join(".isolazi"))
    }

    /// The data root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The user's settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Blobs and manifests.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// State of the virtual machine.
    pub fn machine(&self) -> PathBuf {
        self.root.join("machine")
    }

    /// The virtual machine's disk, where it is a file of this host's.
    pub fn machine_disk(&self) -> PathBuf {
        self.machine().join(DISK)
    }

    /// Where an appliance built or installed for this data root lies.
    pub fn appliance(&self) -> PathBuf {
        self.root.join("appliance")
    }
}
