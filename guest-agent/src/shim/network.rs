//! The network of the shim's container: made before its first process is, and kept
//! through all restarts, so that its addresses and its ports stay.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use isolazi_protocol::{
    ContainerId, EndpointRequest, ErrorCode, NetworkMember, NetworkState, WireError,
};
use nix::unistd::Pid;

use crate::container::{
    ContainerDir, ContainerStore, Record, hosts, resolv_conf, resolv_conf_with_names,
};
use crate::launch::plan::{LaunchPlan, NetworkPlan, NetworksPlan};
use crate::launch::{Connect, NetworkNamespace};
use crate::net::{
    self, Attachment, Connection, Directory, Join, NetNamespace, NetworkError, NetworkStore,
    Reservation, Upstream, Wish,
};
use crate::sys::idmap::IdMap;
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
    /// In one that is attached to networks.
    Attached(Attached),
    /// In one that is theirs with their user namespace, and will be attached when that
    /// is there.
    Promised(Box<Promise>),
    /// In one that was promised. Their next life has another.
    Kept(Attached),
}

impl Joined {
    /// Makes or finds what `plan` asks for. The container in `dir` is told of it.
    pub(super) async fn by(plan: &LaunchPlan, dir: &ContainerDir) -> Result<Self, WireError> {
        match &plan.network {
            NetworkPlan::Alone => Ok(Self::Alone),
            NetworkPlan::Machine => Ok(Self::Machine),
            NetworkPlan::Container(id) => shared(dir, id).map(Self::Shared),
            NetworkPlan::Networks(wanted) => {
                let wanted = Wanted::new(wanted, dir)?;
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
            Self::Attached(attached) => NetworkNamespace::Made(attached.attachment.namespace()),
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

    /// The networks that it is attached to, which can change.
    pub(super) fn attached(&self) -> Option<Attached> {
        match self {
            Self::Attached(attached) | Self::Kept(attached) => Some(attached.clone()),
            _ => None,
        }
    }

    /// What somebody should know of them.
    pub(super) fn warning(&self) -> Option<String> {
        self.attached()?.warning
    }

    /// Gives back what was made.
    pub(super) async fn leave(self) {
        if let Some(attached) = self.settled().attached() {
            attached.retire().await;
            attached.detach().await;
        }
    }
}

/// A container whose networks are told, in its own files and to its neighbours.
#[derive(Debug, Clone)]
pub(super) struct Told {
    dir: ContainerDir,
    networks: NetworkStore,
}

impl Told {
    fn new(dir: &ContainerDir) -> Result<Self, WireError> {
        let containers = ContainerStore::of(dir)?;
        Ok(Self {
            dir: dir.clone(),
            networks: NetworkStore::new(containers),
        })
    }

    /// What is asked for of a network that is there. `last` is what the container had.
    fn join(&self, request: &EndpointRequest, last: &NetworkState) -> Result<Join, WireError> {
        let network = self.networks.find(&request.network);
        let network = network.map_err(|error| match error {
            NetworkError::NotFound(name) => {
                let message = format!(
                    "network {name} is gone; make it again (isolazi network create {name}), or take the container off (isolazi network disconnect {name} CONTAINER)"
                );
                WireError::new(ErrorCode::NotFound, message)
            }
            other => other.into(),
        })?;
        let mut last = last.endpoints.iter();
        Ok(Join {
            rather: last
                .find(|endpoint| endpoint.network == network.name)
                .map(|endpoint| endpoint.address),
            network,
            request: request.clone(),
        })
    }

    /// Tells the container in its `/etc`, its neighbours, and everybody else.
    fn tell(&self, record: &Record, state: &NetworkState) -> io::Result<()> {
        let etc = self.dir.path().join("etc");
        fs::write(etc.join("hosts"), hosts(record, state))?;
        let is_default = |name: &str| name == isolazi_protocol::DEFAULT_NETWORK;
        if state.endpoints.iter().any(|it| !is_default(&it.network)) {
            fs::write(etc.join("resolv.conf"), resolv_conf_with_names(record))?;
        }
        let members = self.networks.members();
        for endpoint in &state.endpoints {
            members.enter(&NetworkMember {
                container: record.id.clone(),
                name: record.name.clone(),
                endpoint: endpoint.clone(),
            })?;
        }
        self.dir.set_network(state)
    }

    fn directory(&self, record: &Record) -> Directory {
        // What listens on the loopback of the host is not there for a user's own
        // namespaces; a guest has no such file.
        let is_host = IdMap::of_users().is_ok_and(|ids| ids.is_whole());
        let follows = is_host && record.spec.options.dns.servers.is_empty();
        let upstream = Upstream::new(&resolv_conf(record), follows);
        let host = record.spec.options.network.host;
        Directory::new(self.networks.folder(), host, upstream)
    }
}

/// What a container is to be attached to, and how.
#[derive(Debug)]
struct Wanted {
    wish: Wish,
    told: Told,
    record: Record,
}

impl Wanted {
    fn new(plan: &NetworksPlan, dir: &ContainerDir) -> Result<Self, WireError> {
        let told = Told::new(dir)?;
        let last = dir.last_network().unwrap_or_default();
        let joins = plan.endpoints.iter().map(|it| told.join(it, &last));
        Ok(Self {
            wish: Wish {
                joins: joins.collect::<Result<_, _>>()?,
                ports: plan.ports.clone(),
                relayed: plan.relayed,
                broker: dir.path().ancestors().nth(2).and_then(userns::broker_of),
            },
            record: dir.record().map_err(|error| internal(&error))?,
            told,
        })
    }

    async fn attach(self) -> Result<Attached, WireError> {
        let reserved = self.wish.reserve()?;
        let hold = self.told.networks.hold()?;
        let connection = net::attach(&self.wish, reserved.ports()).await?;
        let told = self.told.tell(&self.record, connection.state());
        drop(hold);
        told.map_err(|error| internal(&error))?;
        Ok(self.attached(connection, reserved))
    }

    fn attached(self, connection: Connection, reserved: Reservation) -> Attached {
        let directory = self.told.directory(&self.record);
        Attached {
            warning: connection.warning(&self.wish),
            attachment: Rc::new(Attachment::new(connection, reserved, directory)),
            container: self.record.id,
            told: self.told,
        }
    }

    fn promise(self) -> Result<Promise, WireError> {
        Ok(Promise {
            reserved: self.wish.reserve()?,
            wanted: self,
            connection: RefCell::default(),
        })
    }
}

/// A container's networks while they last.
#[derive(Debug, Clone)]
pub(super) struct Attached {
    warning: Option<String>,
    attachment: Rc<Attachment>,
    container: ContainerId,
    told: Told,
}

impl Attached {
    /// Attaches the running container to a further network.
    pub(super) async fn join(&self, request: &EndpointRequest) -> Result<(), WireError> {
        let join = self.told.join(request, &NetworkState::default())?;
        self.attachment.join(&join).await?;
        self.tell()
    }

    /// Takes it off one. That it is not in there is fine.
    pub(super) async fn leave(&self, network: &str) -> Result<(), WireError> {
        let state = self.attachment.state();
        let names = state.endpoints.iter().map(|it| &it.network);
        let others = names.filter(|name| *name != network);
        let others: Vec<_> = others.flat_map(|it| self.told.networks.find(it)).collect();
        if let Some(left) = self.attachment.leave(network, &others).await? {
            self.told.networks.members().remove(&self.container, &left);
        }
        self.tell()
    }

    fn tell(&self) -> Result<(), WireError> {
        // It may have another name by now.
        let record = self.told.dir.record();
        let told = record.and_then(|it| self.told.tell(&it, &self.attachment.state()));
        told.map_err(|error| internal(&error))
    }

    /// Gives back what others may want: its ports, and its names. What remains takes the
    /// kernel longer than it takes to start a container.
    pub(super) async fn retire(&self) {
        let members = self.told.networks.members();
        for endpoint in &self.attachment.state().endpoints {
            members.remove(&self.container, endpoint);
        }
        self.attachment.close().await;
    }

    async fn detach(&self) {
        if let Err(error) = self.attachment.detach().await {
            // It goes with the namespace, or when somebody else gets the address.
            eprintln!("shim: cannot take the container off its networks: {error}");
        }
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
            Some(connection) => Joined::Kept(self.wanted.attached(connection, self.reserved)),
            None => Joined::Alone,
        }
    }
}

impl Connect for Promise {
    fn connect(&self, process: Pid) -> Result<(), String> {
        let namespace = NetNamespace::of(process).map_err(|error| internal(&error).message)?;
        let told = &self.wanted.told;
        let _hold = told.networks.hold().map_err(|error| error.to_string())?;
        let ports = self.reserved.ports();
        let connection = net::connect_now(&self.wanted.wish, ports, namespace)
            .map_err(|error| error.to_string())?;
        let told = told.tell(&self.wanted.record, connection.state());
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
    let peer = ContainerStore::of(dir)?
        .find(&id.to_string())
        .map_err(|_| refused("it is gone; remove this container, too"))?;
    let state = peer.state().map_err(|error| internal(&error))?;
    let pid = state
        .pid()
        .ok_or_else(|| refused("it does not run; start it first"))?;
    let namespace = NetNamespace::of(Pid::from_raw(pid)).map_err(|error| internal(&error))?;
    // What was opened was its process's only if that has not ended by then.
    if peer.state().map_err(|error| internal(&error))?.pid() != Some(pid) {
        return Err(refused("it has just ended; start it first"));
    }
    // Names are the other one's, too.
    for name in ["hosts", "resolv.conf"] {
        let [from, to] = [&peer, dir].map(|it| it.path().join("etc").join(name));
        fs::copy(from, to).map_err(|error| internal(&error))?;
    }
    Ok(namespace)
}

fn internal(error: &io::Error) -> WireError {
    let message = format!("cannot prepare the container's network: {error}");
    WireError::new(ErrorCode::Internal, message)
}
