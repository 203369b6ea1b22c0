//! The network of the shim's container: made before its first process is, and kept
//! through all restarts, so that its address and its ports stay.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use isolazi_protocol::{ContainerId, ErrorCode, NetworkState, WireError};
use nix::unistd::Pid;

use crate::container::{ContainerDir, ContainerStore, Record, hosts};
use crate::launch::plan::{EndpointPlan, LaunchPlan, NetworkPlan};
use crate::launch::{Connect, NetworkNamespace};
use crate::net::{
    self, Attachment, Connection, NetError, NetNamespace, Network, Reservation, Wish,
};
use crate::userns;

/// Where the container's processes are to be.
#[derive(Debug)]
pub(super) enum Joined {
    /// In a namespace of their own, which every start makes anew.
    Alone,
    /// In the machine's.
    Machine,
    /// In another container's.
    Shared(NetNamespace),
    /// In one that is attached to a network.
    Attached(Attachment),
    /// In one that is theirs with their user namespace, and will be attached when that
    /// is there.
    Promised(Box<Promise>),
    /// In one that was promised. Their next life has another.
    Kept(Attachment),
}

impl Joined {
    /// Makes or finds what `plan` asks for. The container in `dir` is told of it.
    pub(super) async fn by(plan: &LaunchPlan, dir: &ContainerDir) -> Result<Self, WireError> {
        match &plan.network {
            NetworkPlan::Alone => Ok(Self::Alone),
            NetworkPlan::Machine => Ok(Self::Machine),
            NetworkPlan::Container(id) => shared(dir, id).map(Self::Shared),
            NetworkPlan::Bridge(wanted) => {
                let wanted = Wanted::new(wanted, dir).map_err(|error| internal(&error))?;
                match plan.settings.userns {
                    None => wanted.attach().await.map(Self::Attached),
                    Some(_) => Ok(Self::Promised(Box::new(wanted.promise()?))),
                }
            }
        }
    }

    /// The namespace for the launch.
    pub(super) fn namespace(&self) -> NetworkNamespace<'_> {
        match self {
            Self::Alone => NetworkNamespace::New,
            Self::Machine => NetworkNamespace::Own,
            Self::Shared(namespace) => NetworkNamespace::Shared(namespace.as_fd()),
            Self::Attached(attachment) => NetworkNamespace::Made(attachment.namespace()),
            Self::Promised(promise) => NetworkNamespace::Connected(&**promise),
            // One that has ended cannot be joined.
            Self::Kept(_) => NetworkNamespace::New,
        }
    }

    /// What it is once the container runs.
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Promised(promise) => promise.kept(),
            other => other,
        }
    }

    /// Whether the container's next life goes on with it.
    pub(super) fn lasts(&self) -> bool {
        !matches!(self, Self::Promised(_) | Self::Kept(_))
    }

    /// Gives back what was made.
    pub(super) async fn leave(self) {
        if let Self::Attached(attachment) | Self::Kept(attachment) = self.settled()
            && let Err(error) = attachment.detach().await
        {
            // It goes with the namespace, or when somebody else gets the address.
            eprintln!("shim: cannot take the container off its network: {error}");
        }
    }
}

/// What a container is to be attached to, and how.
#[derive(Debug)]
struct Wanted {
    network: Network,
    plan: EndpointPlan,
    dir: ContainerDir,
    record: Record,
}

impl Wanted {
    fn new(plan: &EndpointPlan, dir: &ContainerDir) -> io::Result<Self> {
        Ok(Self {
            network: Network::default_bridge(),
            plan: plan.clone(),
            dir: dir.clone(),
            record: dir.record()?,
        })
    }

    fn wish(&self) -> Wish<'_> {
        let last = self.dir.last_network().and_then(|it| it.endpoint);
        Wish {
            address: self.plan.address,
            rather: last.map(|endpoint| endpoint.address),
            mac: self.plan.mac,
            ports: &self.plan.ports,
            relayed: self.plan.relayed,
            broker: self
                .dir
                .path()
                .ancestors()
                .nth(2)
                .and_then(userns::broker_of),
        }
    }

    async fn attach(&self) -> Result<Attachment, WireError> {
        let attachment = net::attach(&self.network, &self.wish()).await?;
        self.tell(&attachment.state())
            .map_err(|error| internal(&error))?;
        Ok(attachment)
    }

    fn promise(self) -> Result<Promise, NetError> {
        Ok(Promise {
            reserved: self.wish().reserve()?,
            wanted: self,
            connection: RefCell::default(),
        })
    }

    /// Tells the container in its `/etc/hosts`, and everybody else.
    fn tell(&self, state: &NetworkState) -> io::Result<()> {
        let etc = self.dir.path().join("etc");
        let hosts = hosts(&self.record, state.endpoint.as_ref());
        fs::write(etc.join("hosts"), hosts)?;
        self.dir.set_network(state)
    }
}

/// Ports that are held for a container, and what it is to be attached to.
#[derive(Debug)]
pub(super) struct Promise {
    wanted: Wanted,
    reserved: Reservation,
    connection: RefCell<Option<Connection>>,
}

impl Promise {
    fn kept(self) -> Joined {
        match self.connection.into_inner() {
            Some(connection) => Joined::Kept(Attachment::new(connection, self.reserved)),
            None => Joined::Alone,
        }
    }
}

impl Connect for Promise {
    fn connect(&self, process: Pid) -> Result<(), String> {
        let namespace = NetNamespace::of(process).map_err(|error| internal(&error).message)?;
        let wish = self.wanted.wish();
        let ports = self.reserved.ports();
        let connection = net::connect_now(&self.wanted.network, &wish, ports, namespace)
            .map_err(|error| error.to_string())?;
        let told = self.wanted.tell(&connection.state());
        told.map_err(|error| internal(&error).message)?;
        self.connection.replace(Some(connection));
        Ok(())
    }
}

/// The network namespace of another container, which must run.
fn shared(dir: &ContainerDir, id: &ContainerId) -> Result<NetNamespace, WireError> {
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
    let state = peer.state().map_err(|error| internal(&error))?;
    let pid = state
        .pid()
        .ok_or_else(|| refused("it does not run; start it first"))?;
    let namespace = NetNamespace::of(Pid::from_raw(pid)).map_err(|error| internal(&error))?;
    // What was opened was its process's only if that has not ended by then.
    match peer.state().map_err(|error| internal(&error))?.pid() == Some(pid) {
        true => Ok(namespace),
        false => Err(refused("it has just ended; start it first")),
    }
}

fn internal(error: &io::Error) -> WireError {
    let message = format!("cannot prepare the container's network: {error}");
    WireError::new(ErrorCode::Internal, message)
}
