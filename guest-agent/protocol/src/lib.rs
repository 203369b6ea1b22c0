//! The agent's published interface: everything the host and the agent say to
//! each other, and nothing else.
//!
//! One connection carries one conversation:
//!
//! ```text
//!  host                                   agent
//!    │ Hello, Request ───────────────────►  │   sent together: no round trip for the greeting
//!    │  ◄──────────────── Greeting          │
//!    │  ◄──────────────── Event …           │   progress of the request, if it has any
//!    │ data / ClientControl  ◄──►  data     │   attach sessions and bulk transfers
//!    │  ◄──────────────── Reply             │   ends the conversation
//! ```
//!
//! A conversation that connects to published ports has one request after the other
//! ([`Request::Dial`]).
//!
//! The same frames travel over an in-memory pipe (native Linux), AF_VSOCK, a
//! unix socket or the stdio of a child process. Both sides treat the other as
//! hostile: every length is checked before anything is allocated.
//!
//! # Versions
//!
//! [`GENERATION`] changes with every change of a message; both sides must have
//! the same one, and [`Hello`] and [`Greeting`] themselves never change their
//! first field. The snapshot test in `tests/` fails when the surface changes
//! and the number does not.

#![forbid(unsafe_code)]

pub mod appliance;
mod boot;
mod codec;
mod container;
mod diagnosis;
mod error;
mod health;
mod id;
mod inside;
mod journal;
mod limits;
mod message;
mod network;
mod options;
mod pieces;
mod privileges;
pub mod resolv_conf;
mod security;
mod stream;
mod transport;
mod usage;
mod userns;
pub mod wsl;

pub use boot::{BOOT_FILE, BootConfig, BootConfigError, GUEST_HOSTNAME, GuestNetwork, Token};
pub use codec::{
    CodecError, Frame, HEADER_BYTES, MAX_CONTROL_BYTES, MAX_DATA_BYTES, StreamId, decode,
    decode_header, encode,
};
pub use container::{
    BindMount, BindRecursion, BindSource, ContainerDetail, ContainerSpec, ContainerState,
    ContainerSummary, ExecSpec, ImageIdentity, Isolation, ProcessSpec, Propagation, Resources,
    RestartPolicy, SeccompProfile, SummaryMount, WindowSize,
};
pub use diagnosis::{Finding, Grade};
pub use error::{ErrorCode, WireError, one_line};
pub use health::{Health, HealthCheck, HealthStatus, HealthTest, ProbeResult};
pub use id::{ContainerId, Digest, IdError};
pub use inside::{ContainerUsage, Content, PathInfo, PathKind, ProcessInfo};
pub use journal::{Follower, Happening, JOURNAL, Journal, ObjectKind};
pub use limits::{CgroupLimits, DeviceRate};
pub use message::{
    AgentInfo, ClientControl, Compression, Event, Greeting, Hello, LayerBounds, LogRange, Reply,
    Request, ServerMessage,
};
pub use network::{
    BadMacAddress, DEFAULT_NETWORK, Endpoint, EndpointRequest, ExposedPort, HostAddress,
    Ipv6Endpoint, MAX_DATAGRAM, MacAddress, NetworkDetail, NetworkDriver, NetworkMember,
    NetworkMode, NetworkOptions, NetworkRequest, NetworkState, PortProtocol, PortRequest,
    PublishedPort,
};
pub use options::{
    ContainerOptions, Dns, ExtraHost, Limit, TmpfsMount, Ulimit, UnknownLimit, VolumeDetail,
    VolumeMount,
};
pub use pieces::PieceReader;
pub use privileges::{
    Capabilities, Capability, DeviceAccess, DeviceError, DeviceKind, DeviceMapping, DeviceRule,
    Privileges, UnknownCapability,
};
pub use security::{MAX_PROFILE_BYTES, SecurityOptions};
pub use transport::{Transport, TransportError};
pub use usage::{ContainerDiskUsage, DiskUsage, LayerUsage, VolumeUsage};
pub use userns::{IdMapping, IdMappingError, UserNamespace};

/// Version of the wire format. Host and agent must agree exactly.
pub const GENERATION: u32 = 9;

/// The vsock port on which a guest's agent listens.
pub const AGENT_VSOCK_PORT: u32 = 1024;

/// Most bytes of standard input that a client may send before the process has
/// taken them. The window keeps input from piling up in front of a process
/// that does not read, and signals from waiting behind it.
pub const STDIN_WINDOW: usize = 512 << 10;

/// Most bytes of output, or of a log, that the agent sends before the client
/// has passed them on: back-pressure from the user's terminal to the process,
/// whatever a transport would buffer in between.
pub const OUTPUT_WINDOW: usize = 256 << 10;
