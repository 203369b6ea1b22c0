//! Requests that start a process and may stay with it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::PathBuf;
use std::sync::Arc;

use isolazi_protocol::{
    BindSource, ContainerId, ContainerSpec, ErrorCode, Event, ExecSpec, NetworkMode, NetworkState,
    Reply, ServerMessage, Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::cgroup;
use crate::container::lifecycle::{Action, Verdict};
use crate::container::plan::{self, PlanInputs};
use crate::container::{
    ContainerDir, NewContainer, Record, health, hosts, privileges, resolv_conf, security, userns,
};
use crate::events;
use crate::server::containers::{ATTEMPTS, PAUSE};
use crate::server::{Engine, await_departure, container_error, io_error, layers};
use crate::shim::{self, ShimRequest, ShimStart};
use crate::volume;

/// Copied at once between a client and a shim.
const RELAY_BYTES: usize = 128 << 10;
const DEFAULT_STOP_SIGNAL: i32 = nix::libc::SIGTERM;

/// Passes everything on, both ways, until the client has gone.
///
/// A shim that has ended takes no more of what the client still says, which is
/// no reason to keep its last words from the client.
pub(super) async fn relay<S>(client: Transport<S>, shim: UnixStream)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (client, received) = client.into_parts();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_shim, mut to_shim) = shim.into_split();
    let towards_shim = async {
        if to_shim.write_all(&received).await.is_ok() {
            // Either way it ends: the client has gone, or the shim has.
            let _ = copy(&mut from_client, &mut to_shim).await;
        }
        let _ = to_shim.shutdown().await;
        await_departure(&mut from_client).await;
    };
    let towards_client = async {
        // Ends in an error, after the last byte, where the shim left something unread.
        let _ = copy(&mut from_shim, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(towards_shim, towards_client);
}

async fn copy<R, W>(from: &mut R, to: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut from = BufReader::with_capacity(RELAY_BYTES, from);
    tokio::io::copy_buf(&mut from, to).await
}

/// What came of a request to start something.
pub(super) enum Begun {
    /// The shim answers from here on.
    Relay(UnixStream),
    /// There was nothing to do.
    Done,
}

impl Engine {
    /// Creates a container and its shim, which answers from there on.
    pub(super) async fn run<S>(
        self: &Arc<Self>,
        client: &mut Transport<S>,
        spec: Box<ContainerSpec>,
        attach: bool,
    ) -> Result<Result<UnixStream, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let made = self
            .apart(move |engine| {
                let new = engine.make(*spec)?;
                let start = engine.ready(&new.record, &new.dir, attach);
                start
                    .inspect_err(|_| engine.discard(&new))
                    .map(|start| (new, start))
            })
            .await;
        let (new, start) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        events::of(&new.record, &new.dir, "create", &[]);
        let undo = || {
            self.discard(&new);
            events::of(&new.record, &new.dir, "destroy", &[]);
        };
        tell_created(client, &new).await.inspect_err(|_| undo())?;
        match shim::spawn(&new.dir, &new.lock, start).await {
            Ok(shim) => Ok(Ok(shim)),
            Err(error) => {
                undo();
                Ok(Err(io_error("the container's shim", error)))
            }
        }
    }

    /// Creates a container that somebody starts later.
    pub(super) async fn create<S>(
        self: &Arc<Self>,
        client: &mut Transport<S>,
        spec: Box<ContainerSpec>,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let made = self
            .apart(move |engine| {
                let new = engine.make(*spec)?;
                // What would keep it from starting is better said now.
                let ready = engine.ready(&new.record, &new.dir, false);
                ready.inspect_err(|_| engine.discard(&new)).map(|_| new)
            })
            .await;
        match made {
            Ok(new) => {
                events::of(&new.record, &new.dir, "create", &[]);
                tell_created(client, &new).await?;
                Ok(Ok(Reply::Done))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Starts a container that exists.
    pub(super) async fn start(
        self: &Arc<Self>,
        container: String,
        attach: bool,
        sources: Vec<BindSource>,
        restarts: bool,
    ) -> Result<Begun, WireError> {
        Self::require_root()?;
        let dir = self.containers.find(&container)?;
        let Some(lock) = self.lock_to_start(&container, &dir).await? else {
            return match attach {
                true => Ok(Begun::Relay(self.attach(&container).await?)),
                false => Ok(Begun::Done),
            };
        };
        let place = dir.clone();
        let mut start = self
            .apart(move |engine| {
                let record = place
                    .record()
                    .map_err(|error| container_error(&container, error))?;
                engine.ready(&relocated(record, sources)?, &place, attach)
            })
            .await?;
        start.restarts = restarts;
        let shim = shim::spawn(&dir, &lock, start).await;
        shim.map(Begun::Relay)
            .map_err(|error| io_error("the container's shim", error))
    }

    /// The lock of a container that does not run; `None` where it runs by now.
    async fn lock_to_start(
        &self,
        container: &str,
        dir: &ContainerDir,
    ) -> Result<Option<fs::File>, WireError> {
        for _ in 0..ATTEMPTS {
            if self.judge(container, dir, Action::Start)? == Verdict::AlreadySo {
                return Ok(None);
            }
            self.settled(container, dir).await?;
            let lock = dir.lock();
            if let Some(lock) = lock.map_err(|error| container_error(container, error))? {
                return Ok(Some(lock));
            }
            // Somebody else is starting it, removing it, or reading its files.
            tokio::time::sleep(PAUSE).await;
        }
        let message = format!("container {container} is just starting or ending; try again");
        Err(WireError::new(ErrorCode::Conflict, message))
    }

    /// Stays with the first process of a running container.
    pub(super) async fn attach(&self, container: &str) -> Result<UnixStream, WireError> {
        Self::require_root()?;
        self.call(container, Action::Attach, &ShimRequest::Attach)
            .await
    }

    /// Asks the shim of a running container for a further process.
    pub(super) async fn exec(
        &self,
        container: &str,
        spec: Box<ExecSpec>,
        attach: bool,
    ) -> Result<UnixStream, WireError> {
        Self::require_root()?;
        if spec.args.first().is_none_or(String::is_empty) {
            return Err(WireError::new(
                ErrorCode::InvalidArgument,
                "no command: give one after the container",
            ));
        }
        let request = ShimRequest::Exec { spec, attach };
        self.call(container, Action::Exec, &request).await
    }

    /// Does what waits for the disk, or for a shared folder that is just being
    /// plugged in, on a thread that may.
    async fn apart<T, W>(self: &Arc<Self>, work: W) -> Result<T, WireError>
    where
        T: Send + 'static,
        W: FnOnce(&Self) -> Result<T, WireError> + Send + 'static,
    {
        let engine = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        done.unwrap_or_else(|_| {
            let message = "preparing the container failed unexpectedly; please report this";
            Err(WireError::new(ErrorCode::Internal, message))
        })
    }

    /// Makes a container's folder. Its `config.json` comes last: with it the
    /// container exists.
    fn make(&self, mut spec: ContainerSpec) -> Result<NewContainer, WireError> {
        Self::require_root()?;
        plan::validate(&spec)?;
        cgroup::check(&spec.resources.limits)?;
        privileges::check(&spec.options.privileges)?;
        // By its id, as names change.
        if let Some(peer) = self.peer(&spec)? {
            spec.network = NetworkMode::Container(peer.to_string());
        }
        // Until the container is there to be seen, none of its networks is removed.
        let _networks = self.resolve_networks(&mut spec)?;
        // Until its record names them, nobody else knows that it needs them.
        let _layers = self
            .layers
            .hold()
            .map_err(|error| layers::to_wire(&error))?;
        let missing = self.layers.missing(&spec.layers);
        if !missing.is_empty() {
            return Err(WireError::new(
                ErrorCode::LayersMissing,
                format!(
                    "{} layers of {} are not unpacked",
                    missing.len(),
                    spec.image.reference
                ),
            ));
        }
        // From here on no volume is removed, until the container is there to be seen.
        let hold = self.hold_volumes(&mut spec)?;
        let volumes = spec.options.volumes.clone();
        let made = self.make_folder(spec);
        drop(hold);
        made.inspect_err(|_| self.forget_volumes(&volumes))
    }

    fn make_folder(&self, spec: ContainerSpec) -> Result<NewContainer, WireError> {
        let others = || {
            self.containers
                .records()
                .filter_map(|it| it.userns)
                .collect()
        };
        let (userns, hold) = userns::resolve(&spec.options.userns, &self.root, others)?;
        let mut new = self.containers.create(spec)?;
        new.record.userns = userns;
        let durable = is_durable(&new.record);
        let made = write_files(&new.record, &new.dir)
            .and_then(|()| self.give_volumes(&new.record))
            .and_then(|()| new.dir.set_record(&new.record, durable));
        drop(hold);
        match made {
            Ok(()) => Ok(new),
            Err(error) => {
                // What cannot be deleted now is swept at the next start.
                let _ = self.containers.delete(&new.dir);
                Err(io_error(&new.dir.path().display().to_string(), error))
            }
        }
    }

    /// Gives volumes that nobody has had to the container's root, where that has other
    /// ids on disk than the root of others.
    fn give_volumes(&self, record: &Record) -> io::Result<()> {
        match &record.userns {
            Some(ids) if ids.is_mapped_on_disk() => self
                .volume_folders(&record.spec)
                .iter()
                .try_for_each(|volume| volume::give(volume, ids.root())),
            _ => Ok(()),
        }
    }

    /// What a shim needs to start the container, whose plan is kept.
    fn ready(
        &self,
        record: &Record,
        dir: &ContainerDir,
        attach: bool,
    ) -> Result<ShimStart, WireError> {
        let inputs = PlanInputs {
            layers: self.layer_paths(record)?,
            seccomp: security::programs(&record.spec)?,
            volumes: self.volume_folders(&record.spec),
            peer: self.peer(&record.spec)?,
        };
        let plan = plan::plan(record, dir, inputs)?;
        dir.set_plan(&plan, is_durable(record))
            .map_err(|error| io_error(&dir.path().display().to_string(), error))?;
        let stop_signal = match &record.spec.stop_signal {
            Some(signal) => plan::signal(signal)?,
            None => DEFAULT_STOP_SIGNAL,
        };
        Ok(ShimStart {
            directory: dir.path().to_owned(),
            plan,
            attach,
            auto_remove: record.spec.auto_remove,
            stop_signal,
            restart: record.spec.restart,
            restarts: false,
            descriptors: self.guest.as_ref().and_then(|guest| guest.descriptors),
            health: record
                .spec
                .options
                .health
                .clone()
                .filter(health::is_enabled),
        })
    }

    /// The container whose network is shared, where it is.
    fn peer(&self, spec: &ContainerSpec) -> Result<Option<ContainerId>, WireError> {
        let NetworkMode::Container(peer) = &spec.network else {
            return Ok(None);
        };
        let record = self.containers.find(peer)?.record();
        let record = record.map_err(|error| container_error(peer, error))?;
        Ok(Some(record.id))
    }

    /// Where the image's layers are, lowest first.
    fn layer_paths(&self, record: &Record) -> Result<Vec<PathBuf>, WireError> {
        let spec = &record.spec;
        let copied_for = record.userns.as_ref();
        let copied_for = copied_for.filter(|ids| ids.is_mapped_on_disk());
        let path = |layer| match copied_for {
            None => Ok(self.layers.path(layer)),
            Some(ids) => self.layers.copy_for(layer, &ids.maps()),
        };
        let paths: Result<Option<_>, _> = spec.layers.iter().map(path).collect();
        let paths = paths.map_err(|error| layers::to_wire(&error))?;
        paths.ok_or_else(|| {
            WireError::new(
                ErrorCode::LayersMissing,
                format!("layers of {} are not unpacked here", spec.image.reference),
            )
        })
    }

    /// Takes back a container that could not be made.
    fn discard(&self, new: &NewContainer) {
        // What cannot be deleted now is swept at the next start.
        let _ = self.containers.delete(&new.dir);
        self.forget_volumes(&new.record.spec.options.volumes);
    }
}

/// A container that is removed when it ends does not outlive a power cut, so
/// there is nothing to make durable.
fn is_durable(record: &Record) -> bool {
    !record.spec.auto_remove
}

/// The record with its mounts' sources where they are by now.
fn relocated(mut record: Record, sources: Vec<BindSource>) -> Result<Record, WireError> {
    if sources.is_empty() {
        return Ok(record);
    }
    let mounts = &mut record.spec.mounts;
    if sources.len() != mounts.len() {
        let message = "the number of sources is not that of the container's mounts";
        return Err(WireError::new(ErrorCode::InvalidArgument, message));
    }
    for (mount, source) in mounts.iter_mut().zip(sources) {
        mount.source = source;
    }
    Ok(record)
}

async fn tell_created<S>(
    client: &mut Transport<S>,
    new: &NewContainer,
) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let created = ServerMessage::Event(Event::Created(new.record.id.clone()));
    client.send_message(&created).await
}

fn write_files(record: &Record, dir: &ContainerDir) -> io::Result<()> {
    // The upper folder is the container's `/`, so its mode is what every user
    // in there sees; the others are nobody's business.
    for (name, mode) in [
        ("upper", 0o755),
        ("work", 0o700),
        ("rootfs", 0o700),
        ("etc", 0o700),
    ] {
        fs::DirBuilder::new()
            .mode(mode)
            .create(dir.path().join(name))?;
    }
    let hostname = plan::hostname_of(record);
    let etc = dir.path().join("etc");
    fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
    fs::write(etc.join("resolv.conf"), resolv_conf(record).as_bytes())?;
    fs::write(etc.join("hosts"), hosts(record, &NetworkState::default()))?;
    let Some(ids) = record.userns.as_ref().filter(|ids| ids.is_mapped_on_disk()) else {
        return Ok(());
    };
    let (user, group) = ids.root();
    ["upper", "etc/hostname", "etc/resolv.conf", "etc/hosts"]
        .iter()
        .try_for_each(|name| chown(dir.path().join(name), Some(user), Some(group)))
}
