//! The networks of one engine.
//!
//! ```text
//! networks/
//! ├── .lock           shared by whoever attaches a container, exclusive for whoever makes or removes a network
//! ├── .changes        held while a container's list of networks changes
//! ├── .members/       who is in which; see `members`
//! └── <name>.json     a network of the user's; never changes
//! ```

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use isolazi_protocol::{
    DEFAULT_NETWORK, ErrorCode, NetworkDetail, NetworkDriver, NetworkRequest, WireError,
};
use tokio::time::sleep;

use super::allocate::{self, AllocationError};
use super::bridge;
use super::members::Members;
use super::network::{Network, id_of_builtin};
use super::routes;
use crate::container::{ContainerStore, is_valid_name, now, random_id};
use crate::refusal::{Refusal, excerpt};
use crate::sys;

const LOCK: &str = ".lock";
const CHANGES: &str = ".changes";
const EXTENSION: &str = "json";
/// How often a lock is tried that somebody else has.
const PAUSE: Duration = Duration::from_millis(5);
/// Networks that are always there, and have no members that could be listed.
const BUILTIN: [(&str, NetworkDriver); 2] =
    [("host", NetworkDriver::Host), ("none", NetworkDriver::Null)];
/// What Docker calls [`DEFAULT_NETWORK`] where nobody says.
const SYNONYM: &str = "default";

/// Why a network cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The name has characters that a name cannot have.
    #[error("'{0}' is not a network name: use letters, digits, '_', '.' and '-', at least two")]
    BadName(String),
    /// There is one of this name.
    #[error(
        "network {0} exists already; remove it (isolazi network rm {0}) or choose another name"
    )]
    Exists(String),
    /// It is always there, as it is.
    #[error(
        "network {0} is always there: it cannot be made, removed or joined later; choose another"
    )]
    Builtin(String),
    /// There is none of this name or id.
    #[error("no such network: {0}; isolazi network ls lists them")]
    NotFound(String),
    /// The start of several ids.
    #[error("'{0}' is the start of several network ids; give more of it")]
    Ambiguous(String),
    /// Containers are in it.
    #[error(
        "network {network} is in use by container {container}; stop it, or take it off (isolazi network disconnect {network} {container})"
    )]
    InUse {
        /// The network.
        network: String,
        /// The container's name.
        container: String,
    },
    /// Its addresses cannot be had.
    #[error(transparent)]
    Addresses(#[from] AllocationError),
    /// The kernel would not remove its bridge or its rules.
    #[error("cannot remove network {network} from the machine: {source}")]
    Kernel {
        /// The network.
        network: String,
        /// Why not.
        source: io::Error,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] Refusal),
}

impl NetworkError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let refusal = Refusal::of(action, path);
        move |source| refusal(source).into()
    }
}

impl From<NetworkError> for WireError {
    fn from(error: NetworkError) -> Self {
        let code = match &error {
            NetworkError::BadName(_) | NetworkError::Builtin(_) | NetworkError::Ambiguous(_) => {
                ErrorCode::InvalidArgument
            }
            NetworkError::Addresses(error) => error.code(),
            NetworkError::NotFound(_) => ErrorCode::NotFound,
            NetworkError::Exists(_) | NetworkError::InUse { .. } => ErrorCode::Conflict,
            NetworkError::Kernel { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorCode::Permission,
                _ => ErrorCode::Internal,
            },
            NetworkError::Io(refusal) => return refusal.into(),
        };
        Self::new(code, error.to_string())
    }
}

/// The folder that describes every network. It is made with the first one.
#[derive(Debug, Clone)]
pub(crate) struct NetworkStore {
    root: PathBuf,
    containers: ContainerStore,
}

/// As long as this exists, no network is made or removed, or no container's list of
/// networks changes.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "held for its lock")] File);

impl NetworkStore {
    /// The networks of the engine that has `containers`.
    pub(crate) fn new(containers: ContainerStore) -> Self {
        Self {
            root: containers.engine().join("networks"),
            containers,
        }
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.root
    }

    /// Who is in which network.
    pub(crate) fn members(&self) -> Members {
        Members::of(&self.root)
    }

    /// Keeps networks from being made and removed.
    pub(crate) fn hold(&self) -> Result<Hold, NetworkError> {
        let lock = self.file(LOCK)?;
        let locked = lock.lock_shared();
        locked.map_err(NetworkError::io("lock", &self.root))?;
        Ok(Hold(lock))
    }

    /// Keeps containers' lists of networks from changing.
    pub(crate) async fn hold_changes(&self) -> Result<Hold, NetworkError> {
        self.lock(CHANGES).await
    }

    /// Makes a network.
    pub(crate) async fn create(&self, request: NetworkRequest) -> Result<Network, NetworkError> {
        let name = request.name;
        if is_builtin(&name) {
            return Err(NetworkError::Builtin(name));
        }
        if !is_valid_name(&name) {
            return Err(NetworkError::BadName(excerpt(&name)));
        }
        let _lock = self.lock(LOCK).await?;
        let path = self.path(&name);
        if path.exists() {
            return Err(NetworkError::Exists(name));
        }
        let id = random_id()?.to_string();
        let mut routes = routes::of_machine();
        // The way to everywhere is no reason to stay out of anywhere.
        routes.retain(|route| !route.is_default());
        let subnet = match request.subnet {
            Some(subnet) => {
                allocate::check(subnet, &self.subnets(), &routes)?;
                subnet
            }
            None => allocate::free(&self.subnets(), &routes)?,
        };
        let gateway = allocate::gateway(subnet, request.gateway)?;
        let is_dual = request.ipv6 || request.ipv6_subnet.is_some();
        let ipv6 = is_dual.then(|| allocate::ipv6(request.ipv6_subnet, &id));
        let network = Network {
            bridge: Network::bridge_of(&id),
            id,
            name,
            created_at: now(),
            subnet,
            gateway,
            internal: request.internal,
            ipv6: ipv6.transpose()?,
            labels: request.labels,
        };
        serde_json::to_vec(&network)
            .map_err(io::Error::from)
            .and_then(|text| sys::fs::replace(&path, &text, true))
            .map_err(NetworkError::io("write", &path))?;
        self.tell(&network, "create", &[]);
        Ok(network)
    }

    /// The network of this name, this id, or an id that starts so.
    pub(crate) fn find(&self, reference: &str) -> Result<Network, NetworkError> {
        if is_default(reference) {
            return Ok(Network::default_bridge());
        }
        if is_valid_name(reference)
            && let Ok(network) = read(&self.path(reference))
        {
            return Ok(network);
        }
        let mut fitting = self.all().into_iter();
        let mut fitting = fitting
            .by_ref()
            .filter(|it| !reference.is_empty() && it.id.starts_with(reference));
        match (fitting.next(), fitting.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(NetworkError::Ambiguous(excerpt(reference))),
            (None, _) if is_builtin(reference) => Err(NetworkError::Builtin(reference.to_owned())),
            (None, _) => Err(NetworkError::NotFound(excerpt(reference))),
        }
    }

    /// Everything about the networks of these names, or about all, by name.
    pub(crate) fn details(
        &self,
        names: Option<&[String]>,
    ) -> Result<Vec<NetworkDetail>, NetworkError> {
        let members = self.members().list();
        let detail = |network: &Network| {
            let inside = members
                .iter()
                .filter(|it| it.endpoint.network == network.name);
            let mut inside: Vec<_> = inside.cloned().collect();
            inside.sort_by(|one, other| one.name.cmp(&other.name));
            network.detail(inside)
        };
        let Some(names) = names else {
            let mut all: Vec<_> = BUILTIN.map(builtin).into();
            all.push(detail(&Network::default_bridge()));
            all.extend(self.all().iter().map(detail));
            all.sort_by(|one, other| one.name.cmp(&other.name));
            return Ok(all);
        };
        let of = |name: &String| match BUILTIN.iter().find(|(it, _)| it == name) {
            Some(known) => Ok(builtin(*known)),
            None => self.find(name).map(|network| detail(&network)),
        };
        names.iter().map(of).collect()
    }

    /// Removes a network that no running container is in.
    pub(crate) async fn remove(&self, reference: &str) -> Result<(), NetworkError> {
        let _lock = self.lock(LOCK).await?;
        let network = self.find(reference)?;
        if is_builtin(&network.name) {
            return Err(NetworkError::Builtin(network.name));
        }
        let members = self.members().list();
        match members
            .into_iter()
            .find(|it| it.endpoint.network == network.name)
        {
            Some(member) => Err(NetworkError::InUse {
                network: network.name,
                container: member.name,
            }),
            None => self.delete(&network).await,
        }
    }

    /// Removes the networks that no container has, running or not, and from the machine
    /// what nobody uses; returns the names of the former.
    pub(crate) async fn prune(&self) -> Result<Vec<String>, NetworkError> {
        let _lock = self.lock(LOCK).await?;
        let members = self.members().list().into_iter();
        let mut used: HashSet<String> = members.map(|it| it.endpoint.network).collect();
        for record in self.containers.records() {
            let joined = record.spec.network.endpoints().iter();
            used.extend(joined.map(|it| it.network.clone()));
        }
        let mut removed = Vec::new();
        for network in self.all() {
            if !used.contains(&network.name) {
                self.delete(&network).await?;
                removed.push(network.name);
            }
        }
        self.members().sweep();
        let failed = |source| NetworkError::Kernel {
            network: DEFAULT_NETWORK.to_owned(),
            source,
        };
        bridge::remove_all_unused().await.map_err(failed)?;
        Ok(removed)
    }

    async fn delete(&self, network: &Network) -> Result<(), NetworkError> {
        let removed = bridge::remove(network).await;
        removed.map_err(|source| NetworkError::Kernel {
            network: network.name.clone(),
            source,
        })?;
        let path = self.path(&network.name);
        fs::remove_file(&path).map_err(NetworkError::io("remove", &path))?;
        self.tell(network, "destroy", &[]);
        Ok(())
    }

    /// Tells what happened to a network.
    pub(crate) fn tell(
        &self,
        network: &Network,
        action: &str,
        further: crate::events::Further<'_>,
    ) {
        let root = self.containers.engine();
        crate::events::network(root, &network.name, &network.id, action, further);
    }

    fn subnets(&self) -> Vec<(String, Ipv4Net)> {
        let all = self.all().into_iter().chain([Network::default_bridge()]);
        all.map(|network| (network.name, network.subnet)).collect()
    }

    /// The user's networks, by name. One whose file cannot be read is left out.
    fn all(&self) -> Vec<Network> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let paths = paths.filter(|path| path.extension().is_some_and(|it| it == EXTENSION));
        let mut all: Vec<Network> = paths.filter_map(|path| read(&path).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.{EXTENSION}"))
    }

    /// Waits for a lock without keeping others from their work.
    async fn lock(&self, name: &str) -> Result<Hold, NetworkError> {
        let lock = self.file(name)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Hold(lock)),
                Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => {
                    return Err(NetworkError::io("lock", &self.root)(error));
                }
            }
        }
    }

    fn file(&self, name: &str) -> Result<File, NetworkError> {
        let path = self.root.join(name);
        let open = || {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).open(&path)
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.root).map_err(NetworkError::io("create", &self.root))?;
                open().map_err(NetworkError::io("open", &path))
            }
            opened => opened.map_err(NetworkError::io("open", &path)),
        }
    }
}

fn read(path: &Path) -> io::Result<Network> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn is_default(name: &str) -> bool {
    name == DEFAULT_NETWORK || name == SYNONYM
}

fn is_builtin(name: &str) -> bool {
    is_default(name) || BUILTIN.iter().any(|(it, _)| *it == name)
}

fn builtin((name, driver): (&str, NetworkDriver)) -> NetworkDetail {
    NetworkDetail {
        id: id_of_builtin(name),
        name: name.to_owned(),
        created_at: 0,
        driver,
        bridge: None,
        ipv4: None,
        ipv6: None,
        internal: false,
        labels: std::collections::BTreeMap::new(),
        members: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::plan::tests::spec;
    use isolazi_protocol::{EndpointRequest, NetworkMode};

    fn store() -> (tempfile::TempDir, NetworkStore) {
        let folder = tempfile::tempdir().unwrap();
        let containers = ContainerStore::open(folder.path().join("containers")).unwrap();
        let store = NetworkStore::new(containers);
        (folder, store)
    }

    fn request(name: &str, subnet: Option<&str>) -> NetworkRequest {
        NetworkRequest {
            name: name.to_owned(),
            subnet: subnet.map(|it| it.parse().unwrap()),
            ..NetworkRequest::default()
        }
    }

    fn create(store: &NetworkStore, request: NetworkRequest) -> Result<Network, NetworkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(store.create(request))
    }

    #[test]
    fn a_network_is_found_by_name_and_id() {
        let (_folder, store) = store();
        let made = create(&store, request("front", Some("198.51.100.0/24"))).unwrap();
        assert_eq!(made.gateway.to_string(), "198.51.100.1");
        for reference in ["front", &made.id, &made.id[..12]] {
            assert_eq!(store.find(reference).unwrap(), made, "{reference}");
        }
        for reference in ["", "back", "../front", "\0"] {
            let error = store.find(reference).unwrap_err();
            assert!(matches!(error, NetworkError::NotFound(_)), "{reference}");
        }
        let names: Vec<_> = store
            .details(None)
            .unwrap()
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(names, ["bridge", "front", "host", "none"]);
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let (_folder, store) = store();
        create(&store, request("front", Some("198.51.100.0/24"))).unwrap();
        for (name, subnet) in [
            ("front", None),
            ("bridge", None),
            ("host", None),
            ("a/b", None),
            ("back", Some("198.51.100.128/25")),
            ("back", Some("198.51.0.0/16")),
            ("back", Some("172.20.0.0/16")),
        ] {
            assert!(create(&store, request(name, subnet)).is_err(), "{name}");
        }
        assert_eq!(store.all().len(), 1);
    }

    #[test]
    fn free_addresses_are_found() {
        let (_folder, store) = store();
        let one = create(&store, request("one", None)).unwrap();
        let other = create(&store, request("other", None)).unwrap();
        assert_ne!(one.subnet, other.subnet);
        assert_ne!(one.bridge, other.bridge);
    }

    #[test]
    fn networks_of_containers_outlive_a_cleaning() {
        let (_folder, store) = store();
        for (name, subnet) in [("used", "198.51.100.0/25"), ("unused", "198.51.100.128/25")] {
            create(&store, request(name, Some(subnet))).unwrap();
        }
        let mut spec = spec();
        spec.network = NetworkMode::Networks(vec![EndpointRequest::new("used")]);
        let new = store.containers.create(spec).unwrap();
        new.dir.set_record(&new.record, false).unwrap();
        let cleaned = crate::net::tests::on_a_machine(async || store.prune().await.unwrap());
        if let Some(removed) = cleaned {
            assert_eq!(removed, ["unused"]);
            assert!(store.find("used").is_ok());
        }
    }
}
