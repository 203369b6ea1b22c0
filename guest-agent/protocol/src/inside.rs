//! Looking into containers, and copying into and out of them.

use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// What of a container is read as a stream of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A tar of what is at a path, with all below it. [`crate::Event::Path`]
    /// comes first and says what that is.
    Path {
        /// Path in the container; relative ones start at its root.
        path: String,
        /// Follow a symbolic link that the path itself is.
        follow: bool,
        /// What the archive calls it.
        name: String,
    },
    /// A tar of the whole root file system, without what is mounted in it.
    Root,
    /// A tar of the changes to the image, as a layer (image-spec `layer.md`).
    Layer,
    /// The changes to the image, as records: the letter `A` (added), `C`
    /// (changed) or `D` (deleted), the absolute path, and a NUL byte.
    Changes,
}

/// What is at a path of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInfo {
    /// The absolute path without symbolic links; lossy where it is not UTF-8.
    pub path: String,
    /// What it is.
    pub kind: PathKind,
    /// Bytes of a file.
    pub size: u64,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// One process of a container, as the agent's kernel counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id in the agent's PID namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Effective user id.
    pub uid: u32,
    /// Its terminal, such as `pts/0`.
    pub terminal: Option<String>,
    /// One letter, as in `/proc/<pid>/stat`.
    pub state: char,
    /// Threads.
    pub threads: u32,
    /// When it started: nanoseconds since the Unix epoch.
    pub started_at: u64,
    /// Processor time used, in nanoseconds.
    pub cpu_time: u64,
    /// Virtual memory in bytes.
    pub virtual_memory: u64,
    /// Resident memory in bytes.
    pub resident_memory: u64,
    /// Name of its executable, at most 15 bytes.
    pub name: String,
    /// Command and arguments; empty for what has none.
    pub command: Vec<String>,
}

/// What a container has used so far. All zero where it does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// Full id.
    pub id: ContainerId,
    /// Unique name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// When this was read: nanoseconds of a clock that never jumps.
    pub read_at: u64,
    /// Processor time, in nanoseconds.
    pub cpu_time: u64,
    /// Memory in use, in bytes, without what the kernel would give up at once.
    pub memory: u64,
    /// Most memory it may use; the machine's where there is no limit.
    pub memory_limit: u64,
    /// Bytes received and sent on its own interfaces, loopback left out.
    pub network: Option<(u64, u64)>,
    /// Bytes read from and written to block devices.
    pub block: Option<(u64, u64)>,
    /// Processes and threads.
    pub pids: u64,
}
