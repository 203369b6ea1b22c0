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

/// Serves one hypervisor, which connects to `control`, until it ends; clients
/// connect to `clients`, which exists before `control` does.
///
/// # Errors
/// Whatever makes it impossible to go on.
pub fn run(control: &Path, clients: &Path, destination: Destination) -> Result<(), Failure> {
    raise_descriptor_limit();
    let muxer = Muxer::listen(clients, destination).map_err(cannot_listen(clients))?;
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
    let mut listener = Listener::new(control, true)
        .map_err(|error| cannot_listen(control)(io::Error::other(error.to_string())))?;
    daemon
        .start(&mut listener)
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

fn cannot_listen(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.display().to_string();
    move |source| Failure::Listen { path, source }
}
