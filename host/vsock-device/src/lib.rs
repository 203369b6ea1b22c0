//! A guest's virtio-vsock over vhost-user, for hosts whose kernel has none that
//! the user may open: whoever connects to a unix socket is connected to one
//! port of the guest.
//!
//! ```text
//!  clients ══► unix socket ─► Muxer ─► Connection, one a client
//!                               │
//!  guest  ◄══ queues in its memory ◄══ Device ◄── vhost-user ── hypervisor
//! ```
//!
//! Everything that comes out of the guest's memory is taken for hostile.

#![cfg(target_os = "linux")]

mod connection;
mod device;
mod header;
mod muxer;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

pub use muxer::Destination;

use device::Device;
use muxer::Muxer;

/// Why the device came to an end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A socket could not be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// The socket's path.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The hypervisor said something that the protocol does not have.
    #[error("cannot serve the hypervisor: {0}")]
    Hypervisor(String),
    /// The guest's driver, or the system, made it impossible to go on.
    #[error("the guest's vsock cannot go on")]
    Device(#[source] io::Error),
}

/// Where the hypervisor and clients connect. Nothing else of the host's files is
/// needed any more.
#[derive(Debug)]
pub struct Sockets {
    control: UnixListener,
    clients: UnixListener,
}

impl Sockets {
    /// Clients' socket exists before the hypervisor's does.
    ///
    /// # Errors
    /// A socket could not be made.
    pub fn listen(control: &Path, clients: &Path) -> Result<Self, Failure> {
        let bind = |path: &Path| {
            let bound = UnixListener::bind(path).and_then(|listener| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(listener)
            });
            bound.map_err(|source| Failure::Listen {
                path: path.display().to_string(),
                source,
            })
        };
        let clients = bind(clients)?;
        let control = bind(control)?;
        Ok(Self { control, clients })
    }
}

/// Serves one hypervisor until it ends.
///
/// # Errors
/// Whatever makes it impossible to go on.
pub fn run(sockets: Sockets, destination: Destination) -> Result<(), Failure> {
    raise_descriptor_limit();
    let muxer = Muxer::new(sockets.clients, destination).map_err(Failure::Device)?;
    let (ended, end) = mpsc::channel();
    let device = Device::new(destination.cid, muxer, ended.clone());
    let device = Arc::new(Mutex::new(device));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("vsock".to_owned(), Arc::clone(&device), memory)
        .map_err(|error| Failure::Hypervisor(error.to_string()))?;
    for events in daemon.get_epoll_handlers() {
        let device = device.lock().unwrap_or_else(PoisonError::into_inner);
        device.watch_clients(&events).map_err(Failure::Device)?;
    }
    daemon
        .start(&mut Listener::from(sockets.control))
        .map_err(|error| Failure::Hypervisor(error.to_string()))?;
    let hypervisor = daemon.shutdown_handle();
    std::thread::spawn(move || {
        let outcome = match daemon.wait() {
            // Ended or killed, it just hangs up.
            Err(Error::HandleRequest(VhostUserError::Disconnected)) => Ok(()),
            outcome => outcome,
        };
        // Nobody listens where the device ended first.
        let _ = ended.send(outcome.map_err(|error| Failure::Hypervisor(error.to_string())));
    });
    let outcome = end.recv().unwrap_or(Ok(()));
    if let Some(hypervisor) = hypervisor {
        hypervisor.shutdown();
    }
    outcome
}

/// Every client takes a descriptor; as many as the system allows.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it does not work, clients wait for each other sooner.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
