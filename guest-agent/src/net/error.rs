//! Why a container cannot have its network, in the words of whoever asked for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use isolazi_protocol::{ErrorCode, ExposedPort, PortProtocol, WireError};

/// Why a container cannot have its network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The kernel would not do a step.
    #[error("cannot {doing}: {}; {}", reason(.source), advice(.source))]
    Kernel {
        /// Completes the sentence.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// So many containers are in the network already.
    #[error(
        "no address is free in network {network} ({subnet}); remove containers, or use another network"
    )]
    Full {
        /// Its name.
        network: String,
        /// Its addresses.
        subnet: Ipv4Net,
    },
    /// An address that was asked for is not one of the network's.
    #[error(
        "{address} is no address for a container in network {network} ({subnet}); choose another with --ip"
    )]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The network's name.
        network: String,
        /// Its addresses.
        subnet: Ipv4Net,
    },
    /// An address that was asked for is somebody else's.
    #[error("{0} belongs to another container; choose another with --ip")]
    AddressTaken(Ipv4Addr),
    /// A link of the bridge's name is something else.
    #[error("{0} is there already and is no bridge of isolazi's; remove or rename it")]
    NotABridge(String),
    /// A port of the machine's is in use.
    #[error("port {port}/{} is already in use on {}; choose another with -p", .protocol.name(), place(.address))]
    PortTaken {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// On which address.
        address: IpAddr,
    },
    /// A port of the machine's is for root only.
    #[error(
        "port {port}/{} is one that only root may publish; choose {first} or above with -p, or allow it with: sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}", .protocol.name()
    )]
    PortOfRoot {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// The first one that everybody may publish.
        first: u16,
    },
    /// Whoever holds ports for us says why one cannot be had.
    #[error("{}", .0.message)]
    Told(WireError),
    /// Whoever holds ports for us does not answer.
    #[error(
        "cannot publish ports: the process that holds them outside the user namespace does not answer ({}); start the container again", reason(.0)
    )]
    NoBroker(io::Error),
    /// The machine does not have the address.
    #[error("cannot publish port {target} on {address}: this machine has no such address")]
    NoSuchAddress {
        /// Which.
        address: IpAddr,
        /// The container's port.
        target: ExposedPort,
    },
    /// A port of the machine's cannot be had.
    #[error("cannot publish port {port}/{} on {}: {source}", .protocol.name(), place(.address))]
    Port {
        /// Which.
        port: u16,
        /// Of which protocol.
        protocol: PortProtocol,
        /// On which address.
        address: IpAddr,
        /// Why not.
        source: io::Error,
    },
}

impl NetError {
    /// A step that the kernel would not do; `doing` completes the sentence "cannot …".
    pub(super) fn kernel(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kernel { doing, source }
    }
}

/// The system's own words, without Rust's number behind them.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "root privileges are needed: use sudo, or run it in a VM with --vm"
        }
        io::ErrorKind::Unsupported | io::ErrorKind::NotFound => {
            "the kernel lacks bridges, veth or nftables: load their modules, or run it in a VM with --vm"
        }
        _ => "--network none goes without",
    }
}

fn place(address: &IpAddr) -> String {
    match address.is_unspecified() {
        true => "this machine".to_owned(),
        false => address.to_string(),
    }
}

impl From<NetError> for WireError {
    fn from(error: NetError) -> Self {
        let code = match &error {
            NetError::Told(told) => told.code,
            NetError::PortOfRoot { .. } => ErrorCode::Permission,
            NetError::NoBroker(_) => ErrorCode::Internal,
            NetError::Outside { .. } | NetError::NoSuchAddress { .. } => ErrorCode::InvalidArgument,
            NetError::Full { .. }
            | NetError::AddressTaken(_)
            | NetError::NotABridge(_)
            | NetError::PortTaken { .. } => ErrorCode::Conflict,
            NetError::Kernel { source, .. } | NetError::Port { source, .. } => {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => ErrorCode::Permission,
                    io::ErrorKind::Unsupported => ErrorCode::Unsupported,
                    _ => ErrorCode::Internal,
                }
            }
        };
        Self::new(code, error.to_string())
    }
}
