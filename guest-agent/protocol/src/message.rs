//! The messages of a conversation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BindSource, CgroupLimits, ContainerDetail, ContainerId, ContainerSpec, ContainerSummary,
    ContainerUsage, Content, Digest, DiskUsage, EndpointRequest, ExecSpec, ExposedPort, Finding,
    Happening, LayerUsage, NetworkDetail, NetworkRequest, PathInfo, ProcessInfo, RestartPolicy,
    SeccompProfile, Token, VolumeDetail, WindowSize, WireError,
};

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
        /// What is refused.
        bounds: LayerBounds,
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
        /// Find out what each has written, which takes a look at every file.
        size: bool,
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
        /// Which lines.
        wanted: LogRange,
    },
    /// Send the stop signal, then SIGKILL after the timeout. Answered by
    /// [`Reply::Done`] once the container has ended.
    Stop {
        /// Id, id prefix or name.
        container: String,
        /// Seconds to wait before SIGKILL; the container's own where there is none.
        timeout: Option<u32>,
    },
    /// Remove the container. Answered by [`Reply::Done`].
    Remove {
        /// Id, id prefix or name.
        container: String,
        /// Kill it first where it runs.
        force: bool,
        /// Remove its anonymous volumes, too.
        volumes: bool,
    },
    /// Write everything to disk and power the guest off. Answered by
    /// [`Reply::Done`] just before; refused natively.
    Shutdown,
    /// Create a container without starting it. Answered by
    /// [`Event::Created`] and [`Reply::Done`].
    Create {
        /// The container.
        spec: Box<ContainerSpec>,
    },
    /// Start a container that does not run; then as [`Request::Run`]. One that
    /// runs already is attached to, where asked for, and is no error.
    Start {
        /// Id, id prefix or name.
        container: String,
        /// Stay for its output.
        attach: bool,
        /// Where the sources of its mounts are by now, in the order of
        /// [`ContainerSpec::mounts`]; empty where they are as they were.
        sources: Vec<BindSource>,
        /// It was stopped for this, so that the two are a restart.
        restarts: bool,
    },
    /// Stay with the first process of a running container; then as
    /// [`Request::Run`] from [`Event::Started`] on.
    Attach {
        /// Id, id prefix or name.
        container: String,
    },
    /// Send a signal to the first process. Answered by [`Reply::Done`].
    Kill {
        /// Id, id prefix or name.
        container: String,
        /// By name or number.
        signal: String,
    },
    /// Answered by [`Event::Exited`] and [`Reply::Done`] once the container
    /// does not run.
    Wait {
        /// Id, id prefix or name.
        container: String,
    },
    /// Suspend every process of a container. Answered by [`Reply::Done`].
    Pause {
        /// Id, id prefix or name.
        container: String,
    },
    /// Let them go on. Answered by [`Reply::Done`].
    Unpause {
        /// Id, id prefix or name.
        container: String,
    },
    /// Give a container another name. Answered by [`Reply::Done`].
    Rename {
        /// Id, id prefix or name.
        container: String,
        /// The new name.
        name: String,
    },
    /// Change what can be changed of a container, at once and for all further
    /// starts. Answered by [`Reply::Done`].
    Update {
        /// Id, id prefix or name.
        container: String,
        /// The new policy; the old one stays where there is none.
        restart: Option<RestartPolicy>,
        /// The new limit of processes.
        pids_limit: Option<u64>,
        /// New limits; those that are not said stay.
        limits: Box<CgroupLimits>,
    },
    /// Make a volume, unless there is one of that name. Answered by [`Reply::Volumes`].
    CreateVolume {
        /// Its name; one is made up where there is none.
        name: Option<String>,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// The volumes of these names, or all. Answered by [`Reply::Volumes`].
    Volumes {
        /// Each must exist. `None` asks for all.
        names: Option<Vec<String>>,
    },
    /// Remove a volume that no container has. Answered by [`Reply::Done`].
    RemoveVolume {
        /// Its name.
        name: String,
        /// One that does not exist is no error.
        force: bool,
    },
    /// Remove the volumes that no container has. Answered by [`Reply::PrunedVolumes`].
    PruneVolumes {
        /// Those with a name of the user's, too.
        all: bool,
    },
    /// Make a network. Answered by [`Reply::Networks`].
    CreateNetwork(NetworkRequest),
    /// The networks of these names or ids, or all. Answered by [`Reply::Networks`].
    Networks {
        /// Each must exist. `None` asks for all.
        names: Option<Vec<String>>,
    },
    /// Remove a network that no running container is in. Answered by [`Reply::Done`].
    RemoveNetwork {
        /// Its name, its id, or the start of that.
        name: String,
        /// One that does not exist is no error.
        force: bool,
    },
    /// Remove the networks that no container has, and what of the others nobody uses
    /// on the machine. Answered by [`Reply::PrunedNetworks`].
    PruneNetworks,
    /// Let a container join a further network, at once where it runs. Answered by
    /// [`Reply::Done`].
    Connect {
        /// Id, id prefix or name.
        container: String,
        /// Which network, and how.
        endpoint: EndpointRequest,
    },
    /// Take a container off a network. Answered by [`Reply::Done`].
    Disconnect {
        /// Id, id prefix or name.
        container: String,
        /// The network's name, its id, or the start of that.
        network: String,
    },
    /// What is at a path of a container, all links followed? Answered by
    /// [`Reply::Path`].
    PathInfo {
        /// Id, id prefix or name.
        container: String,
        /// Path in the container; relative ones start at its root.
        path: String,
    },
    /// Read from a container: the bytes come on [`crate::StreamId::Bulk`] and
    /// end with an empty frame, as far as [`ClientControl::OutputTaken`] goes.
    /// Answered by [`Reply::Done`].
    Read {
        /// Id, id prefix or name.
        container: String,
        /// What to read.
        content: Content,
    },
    /// Unpack a tar, which follows on [`crate::StreamId::Bulk`] and ends with
    /// an empty frame, in a folder of a container. Answered by [`Reply::Done`].
    Write {
        /// Id, id prefix or name.
        container: String,
        /// The folder, which exists.
        path: String,
        /// What the tar is compressed with.
        compression: Compression,
    },
    /// The processes of a running container. Answered by [`Reply::Processes`].
    Processes {
        /// Id, id prefix or name.
        container: String,
    },
    /// What containers use. Answered by [`Reply::Usage`].
    Usage {
        /// Ids, id prefixes or names; all that run where there is none.
        containers: Vec<String>,
        /// Without names: those that do not run, too.
        all: bool,
    },
    /// Remove the unpacked layers that are neither named here nor used by a
    /// container. Answered by [`Reply::Pruned`].
    PruneLayers {
        /// Those of all images; more than once does no harm.
        keep: Vec<Digest>,
    },
    /// What layers and containers take on disk. Answered by [`Reply::DiskUsage`].
    DiskUsage {
        /// And what volumes take, all of whose files are looked at for it.
        volumes: bool,
    },
    /// How much the engine is used, by others than whoever asks.
    Activity,
    /// What the machine has for containers, and what it lacks. Answered by
    /// [`Reply::Findings`].
    Diagnose,
    /// Have the agent of a guest start anew. Containers run on.
    RestartAgent,
    /// What happened to containers and volumes. [`Event::Happened`] tells the
    /// past, in pieces, the last of which is empty; with `follow` more of them
    /// come as things happen, until the client goes. Answered by [`Reply::Done`].
    Events {
        /// Only what happened at or after this: nanoseconds since the Unix epoch.
        since: Option<u64>,
        /// Only what happened before this, as above.
        until: Option<u64>,
        /// Go on with what happens from now on.
        follow: bool,
    },
    /// Connect to a port that a running container publishes. The connection's bytes follow
    /// as [`crate::StreamId::Bulk`], the client's without waiting for an answer, the
    /// container's after [`Reply::Done`], which may come as late as the first of them. Of
    /// TCP each direction ends by itself, with an empty frame; once both have, the client
    /// may ask for the next connection. Of UDP each frame is a datagram, and the
    /// conversation ends with the client. It also ends after an error.
    Dial {
        /// Id, id prefix or name.
        container: String,
        /// Which port.
        target: ExposedPort,
    },
    /// What a profile comes to for a container without options. Answered by
    /// [`Reply::Text`].
    ShowSeccomp(SeccompProfile),
}

/// How large a layer may become; where nothing is said, the agent decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBounds {
    /// Bytes of the uncompressed tar.
    pub bytes: Option<u64>,
    /// How many times larger than its compressed form it may be.
    pub ratio: Option<u64>,
}

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    /// Only so many lines before the present end.
    pub tail: Option<u64>,
    /// Only lines written at or after this: nanoseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only lines written before this, as above.
    pub until: Option<u64>,
    /// When each line was written comes before it.
    pub timestamps: bool,
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
    /// The request is done. Nothing follows, but to [`Request::Dial`].
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
    /// What is about to be sent; see [`Content::Path`].
    Path(PathInfo),
    /// Things that happened, oldest first; see [`Request::Events`].
    Happened(Vec<Happening>),
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
    /// Volumes, by name.
    Volumes(Vec<VolumeDetail>),
    /// Volumes that were removed, and the bytes they had on disk.
    PrunedVolumes {
        /// Their names.
        names: Vec<String>,
        /// What is free now.
        bytes: u64,
    },
    /// Networks, by name.
    Networks(Vec<NetworkDetail>),
    /// Names of the networks that were removed.
    PrunedNetworks(Vec<String>),
    /// What is at the path; `None` where there is nothing.
    Path(Option<PathInfo>),
    /// The first process first.
    Processes(Vec<ProcessInfo>),
    /// In the order asked for, or newest first.
    Usage(Vec<ContainerUsage>),
    /// The layers that were removed.
    Pruned(Vec<LayerUsage>),
    /// Everything that takes space.
    DiskUsage(DiskUsage),
    /// See [`Request::Activity`].
    Activity {
        /// Conversations that are under way.
        conversations: u32,
        /// Containers that run, are paused or are about to start again.
        containers: u32,
        /// Bytes of memory that the agent's process takes.
        resident: u64,
    },
    /// See [`Request::Diagnose`].
    Findings(Vec<Finding>),
    /// What was asked for, as text.
    Text(String),
}
