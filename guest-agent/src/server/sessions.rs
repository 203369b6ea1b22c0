//! Requests that start a process and may stay with it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use isolazi_protocol::{
    ContainerSpec, ErrorCode, Event, ExecSpec, ServerMessage, Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::container::plan::{self, PlanInputs};
use crate::container::{ContainerDir, NewContainer, Record};
use crate::launch::plan::LaunchPlan;
use crate::seccomp;
use crate::server::{Engine, await_departure, io_error, layers};
use crate::shim::{self, ShimRequest, ShimStart};

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
        let engine = Arc::clone(self);
        // A shared folder that is just being plugged in makes this wait.
        let preparing = tokio::task::spawn_blocking(move || engine.prepare(*spec, attach));
        let (new, start) = match preparing.await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => {
                let message = "preparing the container failed unexpectedly; please report this";
                return Ok(Err(WireError::new(ErrorCode::Internal, message)));
            }
        };
        let created = ServerMessage::Event(Event::Created(new.record.id.clone()));
        client.send_message(&created).await?;
        match shim::spawn(&new.dir, &new.lock, &start).await {
            Ok(shim) => Ok(Ok(shim)),
            Err(error) => {
                self.discard(&new.dir);
                Ok(Err(io_error("the container's shim", error)))
            }
        }
    }

    /// Asks the shim of a running container for a further process.
    pub(super) async fn exec(
        &self,
        container: &str,
        spec: Box<ExecSpec>,
        attach: bool,
    ) -> Result<UnixStream, WireError> {
        Self::require_root()?;
        let dir = self.containers.find(container)?;
        if spec.args.first().is_none_or(String::is_empty) {
            return Err(WireError::new(
                ErrorCode::InvalidArgument,
                "no command: give one after the container",
            ));
        }
        shim::connect(&dir, &ShimRequest::Exec { spec, attach })
            .await
            .map_err(|_| {
                WireError::new(
                    ErrorCode::Conflict,
                    format!("container {container} is not running"),
                )
            })
    }

    fn prepare(
        &self,
        spec: ContainerSpec,
        attach: bool,
    ) -> Result<(NewContainer, ShimStart), WireError> {
        Self::require_root()?;
        plan::validate(&spec)?;
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
        let new = self.containers.create(spec)?;
        match self.furnish(&new) {
            Ok(plan) => {
                let start = start_of(&new, plan, attach);
                Ok((new, start?))
            }
            Err(error) => {
                self.discard(&new.dir);
                Err(error)
            }
        }
    }

    /// Fills the container's folder. Its `config.json` comes last: with it the
    /// container exists.
    fn furnish(&self, new: &NewContainer) -> Result<LaunchPlan, WireError> {
        let inputs = PlanInputs {
            layers: self.layer_paths(&new.record.spec)?,
            seccomp: seccomp::default_profile().map_err(|error| {
                WireError::new(ErrorCode::Internal, format!("seccomp profile: {error}"))
            })?,
        };
        let plan = plan::plan(&new.record, &new.dir, inputs)?;
        // A container that is removed when it ends does not outlive a power
        // cut, so there is nothing to make durable.
        let durable = !new.record.spec.auto_remove;
        write_files(&new.record, &new.dir)
            .and_then(|()| new.dir.set_plan(&plan, durable))
            .and_then(|()| new.dir.set_record(&new.record, durable))
            .map_err(|error| io_error(&new.dir.path().display().to_string(), error))?;
        Ok(plan)
    }

    /// Where the image's layers are, lowest first.
    fn layer_paths(&self, spec: &ContainerSpec) -> Result<Vec<PathBuf>, WireError> {
        let paths = spec.layers.iter().map(|layer| self.layers.path(layer));
        paths.collect::<Option<_>>().ok_or_else(|| {
            WireError::new(
                ErrorCode::LayersMissing,
                format!("layers of {} are not unpacked here", spec.image.reference),
            )
        })
    }

    /// Takes back a container that could not be made.
    fn discard(&self, dir: &ContainerDir) {
        // What cannot be deleted now is swept at the next start.
        let _ = self.containers.delete(dir);
    }
}

fn start_of(new: &NewContainer, plan: LaunchPlan, attach: bool) -> Result<ShimStart, WireError> {
    let spec = &new.record.spec;
    let stop_signal = match &spec.stop_signal {
        Some(signal) => plan::stop_signal(signal)?,
        None => DEFAULT_STOP_SIGNAL,
    };
    Ok(ShimStart {
        directory: new.dir.path().to_owned(),
        plan,
        attach,
        auto_remove: spec.auto_remove,
        stop_signal,
    })
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
    fs::write(etc.join("resolv.conf"), &record.spec.resolv_conf)?;
    fs::write(etc.join("hosts"), hosts(hostname))
}

fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.1.1\t{hostname}\n"
    )
}
