//! Serves conversations: one call of [`serve`] for each connection, whatever
//! carries it.
//!
//! ```text
//!  serve ─► greet ─► dispatch ─┬─► containers   list, inspect, stop, remove
//!                              ├─► layers       put, missing
//!                              ├─► logs
//!                              ├─► visits       read, write, processes, usage
//!                              ├─► volumes
//!                              ├─► networks
//!                              ├─► events
//!                              ├─► prune        unused layers, disk usage
//!                              ├─► dial         a published port
//!                              └─► run, exec ─► the shim; its answers are relayed unread
//! ```

mod containers;
mod dial;
mod events;
mod layers;
mod logs;
mod networks;
mod prune;
mod sessions;
mod visits;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use isolazi_protocol::{
    AgentInfo, ErrorCode, Frame, GENERATION, Greeting, Hello, Reply, Request, ServerMessage, Token,
    Transport, TransportError, Ulimit, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::container::{ContainerStore, StoreError, security};
use crate::diagnose;
use crate::net::NetworkStore;
use crate::refusal::{Refusal, excerpt};
use crate::rootfs::layers::LayerStore;
use crate::visit::processes;
use crate::volume::VolumeStore;
use dial::Connection;
use sessions::Begun;

/// A client that has connected must say what it wants within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a container gets to end by itself when the guest shuts down, in seconds.
const SHUTDOWN_GRACE: u32 = 10;

/// What the engine needs to know of its surroundings.
#[derive(Debug)]
pub struct EngineConfig {
    /// Where layers and containers are kept; absolute.
    pub root: PathBuf,
    /// Present where the engine is a guest's.
    pub guest: Option<Guest>,
}

/// What only a guest's engine has and can do.
pub struct Guest {
    /// What every client must present; nothing where none but the host can connect.
    pub token: Option<Token>,
    /// How many descriptors processes of containers may have, if not as many as this
    /// process.
    pub descriptors: Option<Ulimit>,
    /// Sets the guest's clock where it is off; nanoseconds since the Unix epoch.
    pub adopt_clock: fn(u64),
    /// Ends the guest.
    pub power_off: Box<dyn Fn() + Send + Sync>,
    /// Ends this process, soon, so that another takes its place.
    pub restart: Box<dyn Fn() + Send + Sync>,
}

/// The engine: layers and containers below one folder.
pub struct Engine {
    root: PathBuf,
    guest: Option<Guest>,
    layers: LayerStore,
    containers: ContainerStore,
    volumes: VolumeStore,
    networks: NetworkStore,
    /// Conversations that are under way.
    conversations: AtomicU32,
    /// One is over.
    served: Notify,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("containers", &self.containers)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine's folder.
    pub fn open(config: EngineConfig) -> Result<Self, WireError> {
        let containers = ContainerStore::open(config.root.join("containers"))?;
        let containers = containers.in_guest(config.guest.is_some());
        let volumes = VolumeStore::new(config.root.join("volumes"), containers.clone());
        Ok(Self {
            guest: config.guest,
            layers: LayerStore::open(&config.root).map_err(|error| layers::to_wire(&error))?,
            networks: NetworkStore::new(containers.clone()),
            containers,
            volumes,
            conversations: AtomicU32::new(0),
            served: Notify::new(),
            root: config.root,
        })
    }

    /// Clears away what interrupted work has left. Others may be at work. Blocks.
    pub fn sweep(&self) {
        self.containers.sweep();
        self.volumes.sweep();
        self.layers.sweep();
    }

    /// Waits until a conversation is over.
    pub(crate) async fn has_served(&self) {
        self.served.notified().await;
    }

    /// Whether `hello` comes from somebody who may be served.
    fn admit(&self, hello: &Hello) -> Result<(), WireError> {
        if hello.generation != GENERATION {
            return Err(WireError::new(
                ErrorCode::Generation,
                format!(
                    "the agent speaks protocol {GENERATION}, isolazi speaks {}; restart the machine (isolazi vm stop)",
                    hello.generation
                ),
            ));
        }
        let Some(guest) = &self.guest else {
            return Ok(());
        };
        let shown = hello.token.as_ref();
        let is_secret = |secret: &Token| shown.is_some_and(|token| same(token, secret));
        if !guest.token.as_ref().is_none_or(is_secret) {
            return Err(WireError::new(
                ErrorCode::Unauthenticated,
                "the agent does not accept this token; restart the machine (isolazi vm stop)",
            ));
        }
        (guest.adopt_clock)(hello.clock);
        Ok(())
    }

    /// Natively the engine needs root; in a guest it has it.
    fn require_root() -> Result<(), WireError> {
        if nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::Permission,
            "running containers on this host's kernel needs root; use sudo, or --vm to run them in a virtual machine",
        ))
    }

    async fn activity(&self) -> Result<Reply, WireError> {
        let Reply::Containers(active) = self.list(false, false).await? else {
            return Err(WireError::new(ErrorCode::Internal, "a list is no list"));
        };
        Ok(Reply::Activity {
            // But for the one that asks.
            conversations: self.conversations.load(Ordering::Relaxed) - 1,
            containers: active.len() as u32,
            resident: processes::own_memory(),
        })
    }

    async fn diagnose(&self) -> Result<Reply, WireError> {
        let root = self.root.clone();
        // It tries things out, each for a moment.
        let found = tokio::task::spawn_blocking(move || diagnose::diagnose(&root)).await;
        found
            .map(Reply::Findings)
            .map_err(|_| WireError::new(ErrorCode::Internal, "looking at the machine has failed"))
    }

    fn restart(&self) -> Result<Reply, WireError> {
        let guest = self.guest.as_ref().ok_or_else(no_machine)?;
        (guest.restart)();
        Ok(Reply::Done)
    }

    async fn shut_down(&self) -> Result<Reply, WireError> {
        let guest = self.guest.as_ref().ok_or_else(no_machine)?;
        self.stop_all(SHUTDOWN_GRACE).await;
        (guest.power_off)();
        Ok(Reply::Done)
    }
}

fn no_machine() -> WireError {
    WireError::new(
        ErrorCode::Unsupported,
        "there is no machine: this engine runs on the host itself",
    )
}

/// Counts a conversation for as long as it lives.
struct Counted<'a>(&'a Engine);

impl<'a> Counted<'a> {
    fn new(engine: &'a Engine) -> Self {
        engine.conversations.fetch_add(1, Ordering::Relaxed);
        Self(engine)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.conversations.fetch_sub(1, Ordering::Relaxed);
        self.0.served.notify_waiters();
    }
}

/// Compares without giving away, by the time it takes, how much was right.
fn same(a: &Token, b: &Token) -> bool {
    let difference = a.0.iter().zip(&b.0).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Serves one conversation until it is over.
///
/// # Errors
/// When the client breaks off or does not speak the protocol. What goes wrong
/// with a request is reported to the client instead.
pub async fn serve<S>(stream: S, engine: Arc<Engine>) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    converse(Box::new(stream), engine).await
}

/// Whatever a client is connected by. One type for all of them keeps the program small.
type AnyStream = Box<dyn ByteStream>;

trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

async fn converse(stream: AnyStream, engine: Arc<Engine>) -> Result<(), TransportError> {
    let counted = Counted::new(&engine);
    let mut client = Transport::new(stream);
    let opening = tokio::time::timeout(PATIENCE, open(&mut client, &engine)).await;
    let Some((request, greeting)) = opening.map_err(|_| TransportError::Closed)?? else {
        return hang_up(client).await;
    };
    let reply = match request {
        Request::Ping => Ok(Reply::Done),
        Request::MissingLayers(wanted) => Ok(Reply::Layers(engine.layers.missing(&wanted))),
        Request::PutLayer {
            diff_id,
            compression,
            bounds,
        } => {
            let options = layers::options(bounds);
            engine
                .put_layer(&mut client, diff_id, compression, options)
                .await?
        }
        Request::Run { spec, attach } => match engine.run(&mut client, spec, attach).await? {
            Ok(shim) => {
                sessions::relay(client, shim).await;
                return Ok(());
            }
            Err(error) => Err(error),
        },
        Request::Exec {
            container,
            spec,
            attach,
        } => match engine.exec(&container, spec, attach).await {
            Ok(shim) => {
                sessions::relay(client, shim).await;
                return Ok(());
            }
            Err(error) => Err(error),
        },
        Request::Dial { container, target } => {
            let first = Connection { container, target };
            return dial::serve(client, greeting, first, &engine).await;
        }
        Request::List { all, size } => engine.list(all, size).await,
        Request::Inspect { container } => engine.inspect(&container),
        Request::Logs {
            container,
            follow,
            wanted,
        } => engine.logs(&mut client, &container, follow, wanted).await?,
        Request::Stop { container, timeout } => engine.stop(&container, timeout).await,
        Request::Remove {
            container,
            force,
            volumes,
        } => engine.remove(&container, force, volumes).await,
        Request::Shutdown => engine.shut_down().await,
        Request::Create { spec } => engine.create(&mut client, spec).await?,
        Request::Start {
            container,
            attach,
            sources,
            restarts,
        } => match engine.start(container, attach, sources, restarts).await {
            Ok(Begun::Relay(shim)) => {
                sessions::relay(client, shim).await;
                return Ok(());
            }
            Ok(Begun::Done) => Ok(Reply::Done),
            Err(error) => Err(error),
        },
        Request::Attach { container } => match engine.attach(&container).await {
            Ok(shim) => {
                sessions::relay(client, shim).await;
                return Ok(());
            }
            Err(error) => Err(error),
        },
        Request::Kill { container, signal } => engine.kill(&container, &signal).await,
        Request::Wait { container } => engine.wait(&mut client, &container).await?,
        Request::Pause { container } => engine.freeze(&container, true).await,
        Request::Unpause { container } => engine.freeze(&container, false).await,
        Request::Rename { container, name } => engine.rename(&container, &name),
        Request::Update {
            container,
            restart,
            pids_limit,
            limits,
        } => {
            engine
                .update(&container, restart, pids_limit, &limits)
                .await
        }
        Request::CreateVolume { name, labels } => engine.create_volume(name, labels).await,
        Request::Volumes { names } => engine.list_volumes(names),
        Request::RemoveVolume { name, force } => engine.remove_volume(name, force).await,
        Request::PruneVolumes { all } => engine.prune_volumes(all).await,
        Request::CreateNetwork(request) => engine.create_network(request).await,
        Request::Networks { names } => engine.list_networks(names.as_deref()),
        Request::RemoveNetwork { name, force } => engine.remove_network(&name, force).await,
        Request::PruneNetworks => engine.prune_networks().await,
        Request::Connect {
            container,
            endpoint,
        } => engine.connect(&container, endpoint).await,
        Request::Disconnect { container, network } => engine.disconnect(&container, &network).await,
        Request::PathInfo { container, path } => engine.path_info(&container, path).await,
        Request::Read { container, content } => {
            engine.read(&mut client, &container, content).await?
        }
        Request::Write {
            container,
            path,
            compression,
        } => {
            engine
                .write(&mut client, &container, path, compression)
                .await?
        }
        Request::Processes { container } => engine.processes(&container).await,
        Request::Usage { containers, all } => engine.usage(&containers, all),
        Request::PruneLayers { keep } => engine.prune_layers(keep).await,
        Request::DiskUsage { volumes } => engine.disk_usage(volumes).await,
        Request::Activity => engine.activity().await,
        Request::Diagnose => engine.diagnose().await,
        Request::RestartAgent => engine.restart(),
        Request::Events {
            since,
            until,
            follow,
        } => {
            // Who only watches does not use the machine.
            drop(counted);
            engine.events(&mut client, since, until, follow).await?
        }
        Request::ShowSeccomp(profile) => security::show(&profile).map(Reply::Text),
    };
    answer(&mut client, greeting, reply).await?;
    hang_up(client).await
}

/// Says how the request went, behind a greeting that is still to be said.
async fn answer<S>(
    client: &mut Transport<S>,
    greeting: BytesMut,
    reply: Result<Reply, WireError>,
) -> Result<(), TransportError>
where
    S: AsyncWrite + Unpin,
{
    let mut words = greeting;
    Frame::control(&ServerMessage::Reply(reply))?.put(&mut words)?;
    client.send_raw(&words).await
}

/// Ends a conversation once the client has read everything.
async fn hang_up<S>(client: Transport<S>) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = client.into_parts().0;
    stream.shutdown().await?;
    await_departure(&mut stream).await;
    Ok(())
}

/// Reads until the client hangs up. To hang up first, with something of the
/// client's unread, would take back what is still on its way to the client
/// (ECONNRESET on a unix socket, RST on a vsock).
async fn await_departure<R>(stream: &mut R)
where
    R: AsyncRead + Unpin,
{
    // A client that breaks off has gone, too.
    let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
}

/// Takes the greeting and the request; `None` where the client was refused. Its own
/// greeting is returned where it can be said along with the reply, which saves those who
/// connect to ports a piece of their way.
async fn open<S>(
    client: &mut Transport<S>,
    engine: &Engine,
) -> Result<Option<(Request, BytesMut)>, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello: Hello = client.receive_message().await?;
    let greeting: Greeting = engine.admit(&hello).map(|()| info());
    let mut words = BytesMut::new();
    Frame::control(&greeting)?.put(&mut words)?;
    let early = match greeting {
        Ok(_) => client.received_message()?,
        Err(_) => None,
    };
    if let Some(request @ Request::Dial { .. }) = early {
        return Ok(Some((request, words)));
    }
    client.send_raw(&words).await?;
    let request = match (greeting, early) {
        (Err(_), _) => return Ok(None),
        (Ok(_), Some(request)) => request,
        (Ok(_), None) => client.receive_message().await?,
    };
    Ok(Some((request, BytesMut::new())))
}

fn info() -> AgentInfo {
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    AgentInfo {
        generation: GENERATION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        architecture: architecture().to_owned(),
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn io_error(what: &str, error: std::io::Error) -> WireError {
    let refusal = Refusal {
        action: "use",
        path: what.to_owned(),
        source: error,
    };
    (&refusal).into()
}

/// What went wrong with a container's own files. One that is not there any more
/// has just been removed.
fn container_error(container: &str, error: std::io::Error) -> WireError {
    match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::NotFound(excerpt(container)).into(),
        _ => io_error(container, error),
    }
}
