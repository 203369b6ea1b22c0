//! Guests that a supervisor of ours looks after, whichever hypervisor runs them.
//!
//! ```text
//!  command ──► supervisor.sock ──► supervisor ──► hypervisor ──► guest
//!     │          where is the agent?                                │
//!     │          share this folder, take these ports                │
//!     └──────► the door: a unix socket, or AF_VSOCK ─────────────► agent
//! ```
//!
//! The supervisor is this same program, detached; it is started by the first
//! command that needs the machine, and owns the hypervisor and its helpers. What is
//! particular about a hypervisor is behind [`Hypervisor`]. A machine that runs stays
//! with the one that it was started with.

mod answers;
mod boot;
mod consent;
mod console;
mod disk;
mod door;
mod folders;
mod hypervisor;
mod initrd;
mod layout;
mod lines;
mod process;
mod publisher;
mod record;
mod supervisor;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use isolazi_protocol::{BindSource, Finding, Isolation, PortRequest, Reply, Request, Token};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::connection::{Conversation, Dialed};
use crate::engine::EngineError;
use crate::machine::{
    Backend, Machine, MachineError, MachineLog, MachineState, Outside, Publication, VirtualMachine,
    Word, appliance,
};
use crate::paths::Paths;

pub(crate) use boot::{memory_mib, prepare_files, processors, random, settings};
pub(crate) use console::Console;
pub use door::Door;
pub(crate) use folders::{Folders, shared_folders};
pub(crate) use hypervisor::{Hypervisor, Shares, Started};
pub use layout::Layout;
#[cfg(target_os = "linux")]
pub(crate) use layout::keep_private;
#[cfg(target_os = "linux")]
pub(crate) use process::host_boot;
pub(crate) use process::{Identity, Process};
pub(crate) use record::{Record, ShareRecord};
pub(crate) use supervisor::run_if_supervisor;
pub use wire::Ready;

use wire::{Answer, Ask};

/// How long a supervisor may take to open its socket.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);
/// A supervisor knows of its machine's end well within this.
const DEATH_NOTICE: Duration = Duration::from_millis(100);

/// The machine of a data root.
pub struct Supervised {
    backend: Backend,
    hypervisor: Arc<dyn Hypervisor>,
    layout: Layout,
    paths: Paths,
}

impl std::fmt::Debug for Supervised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Supervised").field(&self.backend).finish()
    }
}

impl Supervised {
    /// The machine whose state is below `paths`. Starts nothing.
    pub(crate) fn new(
        backend: Backend,
        hypervisor: Arc<dyn Hypervisor>,
        paths: &Paths,
    ) -> Result<Self, MachineError> {
        Ok(Self {
            backend,
            hypervisor,
            layout: Layout::new(&paths.machine())?,
            paths: paths.clone(),
        })
    }

    /// Starts the machine where it does not run, and waits until its agent answers.
    async fn ready(&self) -> Result<Ready, MachineError> {
        match self.ask(&Ask::Ready, true).await? {
            Answer::Ready(ready) => Ok(ready),
            other => Err(other.unexpected()),
        }
    }

    /// Whether it runs or is being booted. One that has lost its supervisor gets
    /// another one.
    async fn is_up(&self) -> Result<bool, MachineError> {
        if self.layout.is_running() {
            return Ok(true);
        }
        let record = Record::read(&self.layout.record());
        if record.is_none_or(|record| !record.hypervisor.is_alive()) {
            return Ok(false);
        }
        self.ready().await?;
        Ok(true)
    }

    /// Puts one question to the supervisor, which with `start` is started if
    /// need be, again where it was just about to end.
    async fn ask(&self, ask: &Ask, start: bool) -> Result<Answer, MachineError> {
        loop {
            match self.ask_once(ask, start).await? {
                Answer::Failed(reason) => return Err(MachineError::Failed(reason)),
                Answer::Stopped if start => self.await_supervisors_end().await,
                answer => return Ok(answer),
            }
        }
    }

    async fn ask_once(&self, ask: &Ask, start: bool) -> Result<Answer, MachineError> {
        Ok(self.begin_ask(ask, start).await?.0)
    }

    /// The same, with the connection, on which more may be said.
    async fn begin_ask(
        &self,
        ask: &Ask,
        start: bool,
    ) -> Result<(Answer, BufReader<UnixStream>), MachineError> {
        let stream = match UnixStream::connect(self.layout.socket()).await {
            Ok(stream) => stream,
            Err(_) if start => self.start_supervisor().await?,
            Err(error) => return Err(MachineError::io("reach", &self.layout.socket())(error)),
        };
        let lost = |_| self.supervisor_lost();
        let mut stream = BufReader::new(stream);
        let question = wire::line(ask).map_err(lost)?;
        stream.write_all(&question).await.map_err(lost)?;
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(lost)?;
        let answer = serde_json::from_str(&line).map_err(|error| lost(error.into()))?;
        Ok((answer, stream))
    }

    /// Waits until the supervisor that has said goodbye is no more. Its lock falls
    /// with it, but may be another's at once; that one listens, as it does no more.
    async fn await_supervisors_end(&self) {
        let socket = self.layout.socket();
        while self.layout.is_running() && UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Starts a supervisor and connects to it. One that finds another's lock
    /// held ends at once: then the other answers, or is just ending and leaves
    /// the place to the next.
    async fn start_supervisor(&self) -> Result<UnixStream, MachineError> {
        // Checked here too, so that what is missing is a typed error.
        appliance::Appliance::open(&appliance::folder(&self.paths))?;
        self.layout.create()?;
        let socket = self.layout.socket();
        let deadline = Instant::now() + SUPERVISOR_PATIENCE;
        let mut supervisor = self.spawn_supervisor()?;
        loop {
            let refused = match UnixStream::connect(&socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(MachineError::io("reach", &socket)(refused));
            }
            match supervisor.try_wait() {
                Ok(Some(status)) if !status.success() => return Err(self.supervisor_lost()),
                Ok(Some(_)) => supervisor = self.spawn_supervisor()?,
                _ => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn spawn_supervisor(&self) -> Result<Child, MachineError> {
        let log = self.layout.supervisor_log();
        let complaints = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&log)
            .and_then(|file| match self.layout.is_running() {
                true => Ok(file),
                // Of a supervisor that is no more.
                false => file.set_len(0).map(|()| file),
            })
            .map_err(MachineError::io("write", &log))?;
        let program =
            std::env::current_exe().map_err(MachineError::io("find", Path::new("isolazi")))?;
        Command::new(&program)
            .arg0(supervisor::ARGV0)
            .arg(self.paths.root())
            .arg(self.backend.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
            .map_err(MachineError::io("start", &program))
    }

    fn supervisor_lost(&self) -> MachineError {
        MachineError::Failed(format!(
            "the machine's supervisor ended unexpectedly; its log is {}",
            self.layout.supervisor_log().display()
        ))
    }
}

impl VirtualMachine for Supervised {
    fn start(&self) -> BoxFuture<'_, Result<u64, MachineError>> {
        async move { Ok(self.ready().await?.boot_ms) }.boxed()
    }

    fn state(&self) -> BoxFuture<'_, Result<MachineState, MachineError>> {
        async move {
            if !self.is_up().await? {
                return Ok(MachineState::Stopped);
            }
            match self.ask(&Ask::State, false).await {
                Ok(Answer::State(state)) => Ok(state),
                Ok(other) => Err(other.unexpected()),
                Err(_) if !self.layout.is_running() => Ok(MachineState::Stopped),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<bool, MachineError>> {
        async move {
            if !self.is_up().await? {
                return Ok(false);
            }
            match self.ask(&Ask::Stop, false).await? {
                Answer::Stopped => {}
                other => return Err(other.unexpected()),
            }
            self.await_supervisors_end().await;
            Ok(true)
        }
        .boxed()
    }

    fn reset(&self) -> BoxFuture<'_, Result<bool, MachineError>> {
        async move {
            if !self.layout.folder().exists() {
                return Ok(false);
            }
            // Held, so that nobody starts what is about to go.
            let _lock = loop {
                self.stop().await?;
                if let Some(lock) = self.layout.lock()? {
                    break lock;
                }
            };
            let existed = self.layout.disk().exists();
            let was_kept = self.hypervisor.forget(&self.layout).await?;
            self.layout.remove()?;
            Ok(existed || was_kept)
        }
        .boxed()
    }

    fn examine(&self) -> BoxFuture<'_, Vec<Finding>> {
        self.hypervisor.examine(&self.layout)
    }

    fn log(&self, which: MachineLog) -> Result<PathBuf, MachineError> {
        match which {
            MachineLog::Programs => Ok(self.layout.supervisor_log()),
            MachineLog::Console => self.hypervisor.console_log(&self.layout),
        }
    }
}

impl Machine for Supervised {
    fn isolation(&self) -> Isolation {
        Isolation::Vm
    }

    fn dial(&self) -> BoxFuture<'_, Result<Dialed, MachineError>> {
        async move {
            let ready = self.ready().await?;
            match dial_guest(&ready).await {
                Ok(dialed) => Ok(dialed),
                // The machine has just died; its supervisor sees that in a moment.
                Err(_) => {
                    tokio::time::sleep(DEATH_NOTICE).await;
                    dial_guest(&self.ready().await?).await
                }
            }
        }
        .boxed()
    }

    fn share<'a>(
        &'a self,
        source: &'a Path,
        read_only: bool,
        word: Word,
    ) -> BoxFuture<'a, Result<BindSource, MachineError>> {
        async move {
            let ask = Ask::Share {
                path: source.to_owned(),
                read_only,
                word,
            };
            match self.ask(&ask, true).await? {
                Answer::Shared(source) => Ok(source),
                other => Err(other.unexpected()),
            }
        }
        .boxed()
    }

    fn publish<'a>(
        &'a self,
        ports: &'a [PortRequest],
        word: Word,
    ) -> BoxFuture<'a, Result<Publication, MachineError>> {
        async move {
            if ports.is_empty() {
                return Ok(Publication::default());
            }
            // It is up from here on, but for a stop that comes in between.
            self.ready().await?;
            let ask = Ask::Publish {
                ports: ports.to_vec(),
                word,
            };
            match self.begin_ask(&ask, true).await? {
                (Answer::Published(ports), stream) => Ok(Publication {
                    ports,
                    relayed: true,
                    holder: Some(Box::new(stream)),
                }),
                (Answer::Failed(reason), _) => Err(MachineError::Failed(reason)),
                (other, _) => Err(other.unexpected()),
            }
        }
        .boxed()
    }

    fn outside(&self) -> Outside {
        self.hypervisor.outside()
    }
}

/// Puts one question to the agent of a guest that is ready.
pub(crate) async fn ask_agent(ready: &Ready, request: &Request) -> Result<Reply, EngineError> {
    let dialed = dial_guest(ready).await?;
    let conversation = Conversation::open(dialed, request).await?;
    Ok(conversation.reply().await?)
}

/// Connects to the agent of a guest that is ready.
async fn dial_guest(ready: &Ready) -> Result<Dialed, MachineError> {
    Ok(Dialed {
        stream: ready.door.dial().await?,
        token: Some(Token(ready.token)),
    })
}
