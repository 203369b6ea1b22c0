//! This host's own kernel: the agent's library runs in this process, behind
//! the same frames as everywhere else.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_agent::server::{Engine, EngineConfig, serve};
use isolazi_protocol::{BindSource, ErrorCode, Isolation, WireError};

use crate::connection::Dialed;
use crate::machine::{Machine, MachineError};

/// Carried between the two sides without waiting.
const PIPE_BYTES: usize = 512 << 10;

/// The engine in this process.
#[derive(Debug)]
pub struct Native {
    engine: Arc<Engine>,
}

impl Native {
    /// Opens the engine whose data is below `root`.
    pub fn open(root: &Path) -> Result<Self, MachineError> {
        let engine = Engine::open(EngineConfig {
            root: root.to_owned(),
            guest: None,
        })?;
        Ok(Self {
            engine: Arc::new(engine),
        })
    }
}

impl Machine for Native {
    fn isolation(&self) -> Isolation {
        Isolation::Process
    }

    fn dial(&self) -> BoxFuture<'_, Result<Dialed, MachineError>> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        // A conversation that breaks off is noticed on our side.
        tokio::spawn(serve(theirs, Arc::clone(&self.engine)));
        let dialed = Dialed {
            stream: Box::new(ours),
            token: None,
        };
        std::future::ready(Ok(dialed)).boxed()
    }

    fn share<'a>(
        &'a self,
        source: &'a Path,
        _read_only: bool,
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
