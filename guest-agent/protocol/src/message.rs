//! The messages of a conversation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ContainerDetail, ContainerId, ContainerSpec, ContainerSummary, Digest, DiskUsage, ExecSpec,
    LayerUsage, WindowSize, WireError,
};

/// A secret that the host gives to the guest at boot and shows in every
/// [`Hello`], so that nothing else that can reach the agent's socket is served.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// First message of every conversation, from the host. A [`Request`] follows
/// at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must be [`crate::GENERATION`].
    pub generation: u32,
    /// The token of this boot, where the agent runs in a guest.
    pub token: Option<Token>,
    /// The host's clock, nanoseconds since the Unix epoch; a guest whose own
    /// is off follows it.
    pub clock: u64,
}

/// The agent's answer to [`Hello`].
pub type Greeting = Result<AgentInfo, WireError>;

/// What runs on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The agent's [`crate::GENERATION`].
    pub generation: u32,
    /// The agent's package version.
    pub version: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture as the image-spec names it: `amd64`, `arm64`.
    pub architecture: String,
}

/// How a layer's bytes are compressed on the wire (and in the store).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// zstd, possibly of several frames.
    Zstd,
}

/// What a conversation is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Nothing but the greeting. Answered by [`Reply::Done`].
    Ping,
    /// Which of these layers are not unpacked yet? Answered by [`Reply::Layers`].
    MissingLayers(Vec<Digest>),
    /// Unpack a layer, which follows on [`crate::StreamId::Bulk`] and ends
    /// with an empty frame. Answered by [`Reply::Done`] once it is durable; at
    /// once, without reading, where it is there already.
    PutLayer {
        /// Digest of the uncompressed tar.
        diff_id: Digest,
        /// What the bytes are compressed with.
        compression: Compression,
    },
    /// Create a container and start it. With `attach` the conversation then is
    /// an attach session that ends with [`Event::Exited`]; without, it ends
    /// once the process runs. Answered by [`Reply::Done`].
    Run {
        /// The container.
        spec: Box<ContainerSpec>,
        /// Stay for its output.
        attach: bool,
    },
    /// Start a further process in a running container; then as [`Request::Run`].
    Exec {
        /// Id, id prefix or name.
        container: String,
        /// The process.
        spec: Box<ExecSpec>,
        /// Stay for its output.
        attach: bool,
    },
    /// All containers, or the running ones. Answered by [`Reply::Containers`].
    List {
        /// Include those that have ended.
        all: bool,
    },
    /// Answered by [`Reply::Container`].
    Inspect {
        /// Id, id prefix or name.
        container: String,
    },
    /// The container's output so far, on [`crate::StreamId::Stdout`] and
    /// `Stderr`; with `follow` until it ends. Answered by [`Reply::Done`].
    Logs {
        /// Id, id prefix or name.
        container: String,
        /// Keep going until the container ends.
        follow: bool,
    },
    /// Send the stop signal, then SIGKILL after the timeout. Answered by
    /// [`Reply::Done`] once the container has ended.
    Stop {
        /// Id, id prefix or name.
        container: String,
        /// Seconds to wait before SIGKILL.
        timeout: u32,
    },
    /// Remove the container. Answered by [`Reply::Done`].
    Remove {
        /// Id, id prefix or name.
        container: String,
        /// Kill it first where it runs.
        force: bool,
    },
    /// Write everything to disk and power the guest off. Answered by
    /// [`Reply::Done`] just before; refused natively.
    Shutdown,
    /// Remove the unpacked layers that are neither named here nor used by a
    /// container. Answered by [`Reply::Pruned`].
    PruneLayers {
        /// Those of all images; more than once does no harm.
        keep: Vec<Digest>,
    },
    /// What layers and containers take on disk. Answered by [`Reply::DiskUsage`].
    DiskUsage,
}

/// What the host says within an attach session, or while it reads a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientControl {
    /// The terminal's size changed.
    Resize(WindowSize),
    /// Send this signal, by its Linux number, to the process.
    Signal(i32),
    /// This many bytes of output are passed on, and as many more may be sent;
    /// see [`crate::OUTPUT_WINDOW`].
    OutputTaken(u32),
}

/// What the agent says after its greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The request goes on.
    Event(Event),
    /// The request is done; nothing follows.
    Reply(Result<Reply, WireError>),
}

/// Something that happened in the course of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The container exists.
    Created(ContainerId),
    /// The process runs; streams follow where the client attaches.
    Started,
    /// Something the user should know, in one line.
    Warning(String),
    /// The process took this many bytes of its standard input, and as many more
    /// may be sent; see [`crate::STDIN_WINDOW`].
    StdinTaken(u32),
    /// The process ended with this status (128+n for signal n), after the last
    /// byte of its output.
    Exited(i32),
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// The layers asked about that are missing.
    Layers(Vec<Digest>),
    /// Newest first.
    Containers(Vec<ContainerSummary>),
    /// One container.
    Container(Box<ContainerDetail>),
    /// The layers that were removed.
    Pruned(Vec<LayerUsage>),
    /// Everything that takes space.
    DiskUsage(DiskUsage),
}
