//! This host's own kernel: the agent's library runs in this process, behind
//! the same frames as everywhere else. For users other than root it runs in a
//! process of its own, which is root in the user's own namespace.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_agent::server::{Engine, EngineConfig, serve};
use isolazi_agent::userns::Rootless;
use isolazi_protocol::{BindSource, ErrorCode, Finding, Isolation, WireError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;

use crate::connection::Dialed;
use crate::machine::{Machine, MachineError, Word};
use crate::output;

/// Carried between the two sides without waiting.
const PIPE_BYTES: usize = 512 << 10;

/// The engine of this host.
#[derive(Debug)]
pub struct Native(Place);

#[derive(Debug)]
enum Place {
    /// This process.
    Here(Arc<Engine>),
    /// The user's namespace, as soon as somebody calls.
    Rootless(PathBuf, OnceCell<Rootless>),
}

impl Native {
    /// Opens the engine whose data is below `root`.
    pub fn open(root: &Path) -> Result<Self, MachineError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self(Place::Rootless(root.to_owned(), OnceCell::new())));
        }
        let engine = Engine::open(EngineConfig {
            root: root.to_owned(),
            guest: None,
        })?;
        engine.sweep();
        Ok(Self(Place::Here(Arc::new(engine))))
    }
}

/// What this host has for containers of this user, beyond what the engine finds.
pub fn examine() -> Vec<Finding> {
    match nix::unistd::geteuid().is_root() {
        true => Vec::new(),
        false => isolazi_agent::userns::examine(),
    }
}

async fn start_rootless(root: &Path) -> Result<Rootless, MachineError> {
    let (engine, notes) = Rootless::start(root).await?;
    notes.iter().for_each(|note| output::note(note));
    Ok(engine)
}

fn dialed(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Dialed {
    Dialed {
        stream: Box::new(stream),
        token: None,
    }
}

impl Machine for Native {
    fn isolation(&self) -> Isolation {
        Isolation::Process
    }

    fn dial(&self) -> BoxFuture<'_, Result<Dialed, MachineError>> {
        async move {
            let (root, rootless) = match &self.0 {
                Place::Here(engine) => {
                    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                    // A conversation that breaks off is noticed on our side.
                    tokio::spawn(serve(theirs, Arc::clone(engine)));
                    return Ok(dialed(ours));
                }
                Place::Rootless(root, engine) => (root, engine),
            };
            let engine = rootless.get_or_try_init(|| start_rootless(root)).await?;
            let stream = engine.dial();
            Ok(dialed(
                stream.map_err(MachineError::io("reach the engine of", root))?,
            ))
        }
        .boxed()
    }

    fn share<'a>(
        &'a self,
        source: &'a Path,
        _read_only: bool,
        _word: Word,
    ) -> BoxFuture<'a, Result<BindSource, MachineError>> {
        let path = source.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "bind source {} is not valid UTF-8; rename it",
                source.display()
            );
            WireError::new(ErrorCode::InvalidArgument, message).into()
        });
        std::future::ready(path.map(BindSource::Path)).boxed()
    }
}
