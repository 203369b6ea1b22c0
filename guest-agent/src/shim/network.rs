//! The network of the shim's container: made before its first process is, and kept
//! through all restarts, so that its address and its ports stay.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use isolazi_protocol::{ContainerId, ErrorCode, NetworkState, WireError};

use crate::container::{ContainerDir, ContainerStore, hosts};
use crate::launch::NetworkNamespace;
use crate::launch::plan::{EndpointPlan, LaunchPlan, NetworkPlan};
use crate::net::{self, Attachment, Network, Wish};

/// Where the container's processes are to be.
#[derive(Debug)]
pub(super) enum Joined {
    /// In a namespace of their own, which every start makes anew.
    Alone,
    /// In the machine's.
    Machine,
    /// In another container's.
    Shared(File),
    /// In one that is attached to a network.
    Attached(Attachment),
}

impl Joined {
    /// Makes or finds what `plan` asks for. The container in `dir` is told of it.
    pub(super) async fn by(plan: &LaunchPlan, dir: &ContainerDir) -> Result<Self, WireError> {
        match &plan.network {
            NetworkPlan::Alone => Ok(Self::Alone),
            NetworkPlan::Machine => Ok(Self::Machine),
            NetworkPlan::Container(id) => shared(dir, id).map(Self::Shared),
            NetworkPlan::Bridge(wanted) => attached(wanted, dir).await.map(Self::Attached),
        }
    }

    /// The namespace for the launch.
    pub(super) fn namespace(&self) -> NetworkNamespace<'_> {
        match self {
            Self::Alone => NetworkNamespace::New,
            Self::Machine => NetworkNamespace::Own,
            Self::Shared(namespace) => NetworkNamespace::Shared(namespace.as_fd()),
            Self::Attached(attachment) => NetworkNamespace::Made(attachment.namespace()),
        }
    }

    /// Gives back what was made.
    pub(super) async fn leave(self) {
        if let Self::Attached(attachment) = self
            && let Err(error) = attachment.detach().await
        {
            // It goes with the namespace, or when somebody else gets the address.
            eprintln!("shim: cannot take the container off its network: {error}");
        }
    }
}

async fn attached(wanted: &EndpointPlan, dir: &ContainerDir) -> Result<Attachment, WireError> {
    let record = dir.record().map_err(internal)?;
    let last = dir.last_network().and_then(|it| it.endpoint);
    let wish = Wish {
        address: wanted.address,
        rather: last.map(|endpoint| endpoint.address),
        mac: wanted.mac,
        ports: &wanted.ports,
        relayed: wanted.relayed,
    };
    let attachment = net::attach(&Network::default_bridge(), &wish).await?;
    let tell = |state: &NetworkState| {
        let etc = dir.path().join("etc");
        fs::write(etc.join("hosts"), hosts(&record, state.endpoint.as_ref()))?;
        dir.set_network(state)
    };
    tell(attachment.state()).map_err(internal)?;
    Ok(attachment)
}

/// The network namespace of another container, which must run.
fn shared(dir: &ContainerDir, id: &ContainerId) -> Result<File, WireError> {
    let refused = |why: &str| {
        let message = format!(
            "cannot share the network of container {}: {why}",
            id.short()
        );
        WireError::new(ErrorCode::Conflict, message)
    };
    let root = dir.path().parent().unwrap_or(dir.path());
    let store = ContainerStore::open(root.to_owned())?;
    let peer = store
        .find(&id.to_string())
        .map_err(|_| refused("it is gone; remove this container, too"))?;
    let state = peer.state().map_err(internal)?;
    let pid = state
        .pid()
        .ok_or_else(|| refused("it does not run; start it first"))?;
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(internal)?;
    // What was opened was its process's only if that has not ended by then.
    match peer.state().map_err(internal)?.pid() == Some(pid) {
        true => Ok(namespace),
        false => Err(refused("it has just ended; start it first")),
    }
}

fn internal(error: io::Error) -> WireError {
    let message = format!("cannot prepare the container's network: {error}");
    WireError::new(ErrorCode::Internal, message)
}
