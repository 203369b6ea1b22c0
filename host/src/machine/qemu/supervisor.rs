//! The supervisor: a detached process that owns QEMU and its helpers.
//!
//! ```text
//!  Booting ──agent answers──► Running ──Stop──► (guest shuts down) ──► ends
//!     │                          │
//!     └── Failed(why) ──► ends   └── QEMU ends by itself ──► ends
//! ```
//!
//! It holds the machine's lock, so there is one at most. Who asks while it
//! boots is answered when that is over. Its helpers die with it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use isolazi_protocol::{Reply, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::Qemu;
use super::boot::{self, Booted};
use super::layout::Layout;
use super::wire::{self, Answer, Ask, MachineState, Ready};
use crate::connection::Conversation;
use crate::engine::Engine;
use crate::machine::{MachineError, known};
use crate::paths::Paths;
use crate::revive::revive;

pub(super) const ARGV0: &str = "isolazi-machine";
/// Longest question.
const LONGEST_ASK: u64 = 64 << 10;
/// What a guest may take to shut down before its power is cut.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);
/// How long those who ask may take to connect and to read their answers when
/// the machine is gone.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the supervisor if that is what this process was started as.
pub fn run_if_supervisor() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != ARGV0 {
        return None;
    }
    let root = PathBuf::from(arguments.next()?);
    Some(match run(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::failure(&format!("{:#}", anyhow::Error::from(error)));
            ExitCode::FAILURE
        }
    })
}

fn run(root: &Path) -> Result<(), MachineError> {
    // Fails only for a process group leader, which a spawned child is not.
    let _ = nix::unistd::setsid();
    let paths = Paths::new(root.to_owned());
    let layout = Layout::new(&paths.machine())?;
    let Some(_lock) = layout.lock()? else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MachineError::io("start", Path::new("the supervisor")))?;
    LocalSet::new().block_on(&runtime, supervise(paths, layout))
}

enum Phase {
    Booting,
    Running(Ready),
    Failed(String),
}

struct Supervisor {
    folder: PathBuf,
    phase: watch::Sender<Phase>,
    machine: RefCell<Option<Booted>>,
    stop: Notify,
    stopped: watch::Sender<bool>,
    /// Somebody got an answer.
    answered: Notify,
}

/// What cannot be started again is told in the log.
async fn revive_containers(paths: Paths) {
    let revived = match Qemu::new(&paths) {
        Ok(machine) => revive(&Engine::new(Arc::new(machine))).await,
        Err(error) => Err(error.into()),
    };
    match revived {
        Ok(failures) => failures
            .iter()
            .for_each(|line| crate::output::failure(line)),
        Err(error) => crate::output::failure(&format!("{:#}", anyhow::Error::from(error))),
    }
}

async fn supervise(paths: Paths, layout: Layout) -> Result<(), MachineError> {
    let socket = layout.socket();
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(MachineError::io("listen on", &socket))?;
    let supervisor = Rc::new(Supervisor {
        folder: paths.machine(),
        phase: watch::channel(Phase::Booting).0,
        machine: RefCell::default(),
        stop: Notify::new(),
        stopped: watch::channel(false).0,
        answered: Notify::new(),
    });
    let accepting = spawn_local(accept(listener, Rc::clone(&supervisor)));
    let booting = tokio::select! {
        booted = boot::boot(&paths, &layout) => booted,
        () = supervisor.stop.notified() => Err(MachineError::Failed("stopped while it booted".to_owned())),
    };
    match booting {
        Ok((booted, ready)) => {
            supervisor.machine.replace(Some(booted));
            supervisor.phase.send_replace(Phase::Running(ready));
            let reviving = spawn_local(revive_containers(paths));
            supervisor.keep_running().await;
            reviving.abort();
        }
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::from(error));
            supervisor.phase.send_replace(Phase::Failed(reason));
            // Whoever started us may not have connected yet.
            let heard = supervisor.answered.notified();
            let _ = tokio::time::timeout(LAST_WORDS, heard).await;
        }
    }
    let _ = std::fs::remove_file(&socket);
    supervisor.stopped.send_replace(true);
    // Those who have connected get their answers.
    let _ = tokio::time::timeout(LAST_WORDS, accepting).await;
    Ok(())
}

/// Answers everybody, until the machine has stopped and all have been answered.
async fn accept(listener: UnixListener, supervisor: Rc<Supervisor>) {
    let mut stopped = supervisor.stopped.subscribe();
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    asking.spawn_local(Rc::clone(&supervisor).serve(stream));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = asking.join_next() => {}
        }
    }
    drop(listener);
    while asking.join_next().await.is_some() {}
}

impl Supervisor {
    /// Until QEMU ends, by itself or because it was asked to.
    async fn keep_running(&self) {
        let Some((mut qemu, mut vsock)) = self
            .machine
            .borrow_mut()
            .as_mut()
            .and_then(Booted::take_qemu)
        else {
            return;
        };
        tokio::select! {
            _ = qemu.wait() => return,
            () = vsock.ended() => {
                crate::output::failure("the machine's vsock ended unexpectedly, so the machine ends, too");
                let _ = qemu.kill().await;
                return;
            }
            () = self.stop.notified() => {}
        }
        self.shut_guest_down().await;
        if tokio::time::timeout(SHUTDOWN_PATIENCE, qemu.wait())
            .await
            .is_err()
        {
            let _ = qemu.kill().await;
        }
    }

    /// Asks the agent; where it does not listen, the power is cut later.
    async fn shut_guest_down(&self) {
        let ready = match &*self.phase.borrow() {
            Phase::Running(ready) => ready.clone(),
            _ => return,
        };
        let ask = async |request| {
            let dialed = super::dial_guest(&ready).await.ok()?;
            let conversation = Conversation::open(dialed, &request).await.ok()?;
            conversation.reply().await.ok()
        };
        let asked = async {
            // For those who ask while the machine is down.
            if let Some(Reply::Containers(all)) = ask(Request::List {
                all: true,
                size: false,
            })
            .await
                && let Err(error) = known::write(&self.folder, all)
            {
                crate::output::failure(&format!("{:#}", anyhow::Error::from(error)));
            }
            ask(Request::Shutdown).await
        };
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, asked).await;
    }

    async fn serve(self: Rc<Self>, stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        let read = (&mut stream).take(LONGEST_ASK).read_line(&mut line).await;
        let Ok(ask) = read.and_then(|_| Ok(serde_json::from_str(&line)?)) else {
            return;
        };
        let answer = self.answer(ask).await;
        if let Ok(line) = wire::line(&answer) {
            // Whoever has gone does not need it.
            let _ = stream.write_all(&line).await;
            self.answered.notify_one();
        }
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::State => Answer::State(self.state()),
            Ask::Stop => {
                self.stop.notify_one();
                let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
                Answer::Stopped
            }
            Ask::Ready => self
                .ready()
                .await
                .map_or_else(Answer::Failed, Answer::Ready),
            Ask::Share { path, read_only } => match self.ready().await {
                Ok(_) => self.share(&path, read_only).await,
                Err(reason) => Answer::Failed(reason),
            },
        }
    }

    async fn ready(&self) -> Result<Ready, String> {
        let mut phase = self.phase.subscribe();
        let settled = phase
            .wait_for(|phase| !matches!(phase, Phase::Booting))
            .await;
        match settled.as_deref() {
            Ok(Phase::Running(ready)) => Ok(ready.clone()),
            Ok(Phase::Failed(reason)) => Err(reason.clone()),
            _ => Err("the machine's supervisor is ending".to_owned()),
        }
    }

    fn state(&self) -> MachineState {
        let machine = self.machine.borrow();
        match (&*self.phase.borrow(), &*machine) {
            (Phase::Running(ready), Some(booted)) => MachineState::Running {
                pid: booted.pid,
                accelerator: booted.accelerator.name().to_owned(),
                boot_ms: ready.boot_ms,
                shares: booted.shared_folders(),
            },
            (Phase::Failed(_), _) => MachineState::Stopped,
            _ => MachineState::Booting,
        }
    }

    async fn share(&self, path: &Path, read_only: bool) -> Answer {
        let shares = self
            .machine
            .borrow()
            .as_ref()
            .map(|booted| Rc::clone(&booted.shares));
        let Some(shares) = shares else {
            return Answer::Failed("the machine is going down".to_owned());
        };
        // One after the other: each takes the next free slot.
        let mut shares = shares.lock().await;
        match shares.share(path, read_only).await {
            Ok((tag, subpath)) => Answer::Shared { tag, subpath },
            Err(error) => Answer::Failed(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}
