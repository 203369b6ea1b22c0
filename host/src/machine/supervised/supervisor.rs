//! The supervisor: a detached process that owns the hypervisor and its helpers.
//!
//! ```text
//!  Booting ──agent answers──► Running ──Stop, or idle──► Stopping ──► ends
//!     │                          │
//!     └── Failed(why) ──► ends   └── hypervisor ends ──► ends
//! ```
//!
//! It holds the machine's lock, so there is one at most. Who asks while it
//! boots or stops is answered when that is over. One that is killed leaves the
//! machine running, with a record of it, from which the next one takes it over.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use isolazi_protocol::{Reply, Request, one_line};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::boot::{self, Booted, Processes};
use super::hypervisor::Hypervisor;
use super::layout::{self, Layout};
use super::process::Process;
use super::publisher::Publisher;
use super::wire::Ready;
use super::{Supervised, ask_agent};
use crate::config::Config;
use crate::engine::Engine;
use crate::machine::{Backend, MachineError, known};
use crate::paths::Paths;
use crate::revive::revive;

pub(super) const ARGV0: &str = "isolazi-machine";
/// What a guest may take to shut down before its power is cut.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);
/// How often the guest is looked after.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What an agent may take to say how much it is used.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long those who ask may take to connect and to read their answers when
/// the machine is gone.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the supervisor if that is what this process was started as.
/// `hypervisor` knows those that there are.
pub(crate) fn run_if_supervisor(
    hypervisor: fn(Backend) -> Result<Arc<dyn Hypervisor>, MachineError>,
) -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != ARGV0 {
        return None;
    }
    let root = PathBuf::from(arguments.next()?);
    let backend = arguments.next()?;
    let backend = Backend::from_str(backend.to_str()?, true).ok()?;
    Some(
        match hypervisor(backend).and_then(|it| run(&root, backend, it)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                crate::output::error(error);
                ExitCode::FAILURE
            }
        },
    )
}

fn run(root: &Path, backend: Backend, hypervisor: Arc<dyn Hypervisor>) -> Result<(), MachineError> {
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
    let place = Place {
        backend,
        hypervisor,
        paths,
        layout,
    };
    LocalSet::new().block_on(&runtime, supervise(place))
}

/// What is supervised, and where.
pub(super) struct Place {
    backend: Backend,
    hypervisor: Arc<dyn Hypervisor>,
    paths: Paths,
    pub(super) layout: Layout,
}

impl Place {
    /// The machine as commands have it.
    fn machine(&self) -> Result<Supervised, MachineError> {
        Supervised::new(self.backend, Arc::clone(&self.hypervisor), &self.paths)
    }
}

pub(super) enum Phase {
    Booting,
    Running(Ready),
    Stopping,
    Failed(String),
}

pub(super) struct Supervisor {
    pub(super) place: Place,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) machine: RefCell<Option<Booted>>,
    pub(super) publisher: RefCell<Option<Rc<Publisher>>>,
    pub(super) stop: Notify,
    pub(super) stopped: watch::Sender<bool>,
    /// Somebody got an answer.
    pub(super) answered: Notify,
    /// When the machine was last in use, as far as is known.
    pub(super) last_use: Cell<Instant>,
}

/// What cannot be started again is told in the log.
async fn revive_containers(
    machine: Result<Supervised, MachineError>,
    folder: PathBuf,
    ready: Ready,
    boot: SystemTime,
) {
    let revived = match machine {
        Ok(machine) => revive(&Engine::new(Arc::new(machine)), boot).await,
        Err(error) => Err(error.into()),
    };
    match revived {
        Ok(failures) => failures
            .iter()
            .for_each(|line| crate::output::failure(line)),
        Err(error) => crate::output::error(error),
    }
    note_containers(&folder, &ready).await;
}

/// Leaves a list of the machine's containers for those who do not ask it.
async fn note_containers(folder: &Path, ready: &Ready) {
    let everything = Request::List {
        all: true,
        size: false,
    };
    if let Ok(Reply::Containers(all)) = ask_agent(ready, &everything).await
        && let Err(error) = known::write(folder, all)
    {
        crate::output::error(error);
    }
}

/// A machine that is up.
struct Up {
    booted: Booted,
    ready: Ready,
    /// When its boot began, where that was just now.
    boot: Option<SystemTime>,
}

/// The machine that an earlier supervisor has left, or else a new one.
async fn bring_up(place: &Place) -> Result<Up, MachineError> {
    let (hypervisor, paths, layout) = (place.hypervisor.as_ref(), &place.paths, &place.layout);
    let now = SystemTime::now();
    let (adopted, boot) = match boot::adopt(hypervisor, paths, layout).await {
        Some(adopted) => (adopted, None),
        None => (boot::boot(hypervisor, paths, layout).await?, Some(now)),
    };
    let (booted, ready) = adopted;
    Ok(Up {
        booted,
        ready,
        boot,
    })
}

async fn supervise(place: Place) -> Result<(), MachineError> {
    let paths = place.paths.clone();
    let socket = place.layout.socket();
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(MachineError::io("listen on", &socket))?;
    layout::keep_private(&socket).map_err(MachineError::io("protect", &socket))?;
    let supervisor = Rc::new(Supervisor {
        place,
        phase: watch::channel(Phase::Booting).0,
        machine: RefCell::default(),
        publisher: RefCell::default(),
        stop: Notify::new(),
        stopped: watch::channel(false).0,
        answered: Notify::new(),
        last_use: Cell::new(Instant::now()),
    });
    let idle_stop = idle_stop(&paths);
    let accepting = spawn_local(accept(listener, Rc::clone(&supervisor)));
    let booting = tokio::select! {
        booted = bring_up(&supervisor.place) => booted,
        () = supervisor.stop.notified() => {
            supervisor.place.hypervisor.cut_power(&supervisor.place.layout).await;
            Err(MachineError::Failed("stopped while it booted".to_owned()))
        }
    };
    match booting {
        Ok(Up {
            booted,
            ready,
            boot,
        }) => {
            supervisor.place.hypervisor.confine_supervisor();
            supervisor.machine.replace(Some(booted));
            supervisor.phase.send_replace(Phase::Running(ready.clone()));
            supervisor.last_use.set(Instant::now());
            let publisher = Publisher::new(ready.clone(), supervisor.place.layout.consent());
            supervisor.publisher.replace(Some(Rc::clone(&publisher)));
            let publishing = spawn_local(publisher.follow());
            let reviving = boot.map(|boot| {
                let (machine, folder) = (supervisor.place.machine(), paths.machine());
                spawn_local(revive_containers(machine, folder, ready.clone(), boot))
            });
            supervisor.keep_running(&ready, idle_stop).await;
            // From here on whoever wants the machine waits for the next one.
            supervisor.phase.send_replace(Phase::Stopping);
            publishing.abort();
            supervisor.publisher.take();
            if let Some(reviving) = reviving {
                reviving.abort();
            }
        }
        Err(error) => {
            let reason = one_line(&error);
            supervisor.phase.send_replace(Phase::Failed(reason));
            // Whoever started us may not have connected yet.
            let heard = supervisor.answered.notified();
            let _ = tokio::time::timeout(LAST_WORDS, heard).await;
        }
    }
    let Place {
        hypervisor, layout, ..
    } = &supervisor.place;
    for remains in hypervisor.remains(layout) {
        let _ = std::fs::remove_file(remains);
    }
    let _ = std::fs::remove_file(layout.record());
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
    // Its socket is gone, so nobody comes any more; those who have are answered, too.
    for stream in waiting(listener) {
        asking.spawn_local(Rc::clone(&supervisor).serve(stream));
    }
    while asking.join_next().await.is_some() {}
}

/// Who has connected and has not been accepted; the listener ends.
fn waiting(listener: UnixListener) -> Vec<UnixStream> {
    // As it does not block, it says at once that there is nobody more. The runtime's own
    // would not have heard of those who have just come.
    let listener = listener.into_std();
    let accept = || {
        let (stream, _) = listener.as_ref().ok()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        UnixStream::from_std(stream).ok()
    };
    std::iter::from_fn(accept).collect()
}

/// How long a machine may be of no use; `None` for ever.
fn idle_stop(paths: &Paths) -> Option<Duration> {
    match Config::read(&paths.config()) {
        Ok(config) => config.machine.idle_stop,
        Err(error) => {
            crate::output::error(error);
            None
        }
    }
}

/// An agent that does not answer has its hands full.
fn is_in_use(answer: Option<&Reply>) -> bool {
    !matches!(
        answer,
        Some(Reply::Activity {
            conversations: 0,
            containers: 0,
            ..
        })
    )
}

/// Comes to its end with the process, if there is one.
async fn end_of(process: &mut Option<Process>) {
    match process {
        Some(process) => drop(process.ended().await),
        None => std::future::pending().await,
    }
}

impl Supervisor {
    /// Until the hypervisor ends, by itself or because it was asked to.
    async fn keep_running(&self, ready: &Ready, idle_stop: Option<Duration>) {
        let Some(Processes {
            mut hypervisor,
            mut helper,
        }) = self
            .machine
            .borrow_mut()
            .as_mut()
            .and_then(Booted::take_processes)
        else {
            return;
        };
        tokio::select! {
            _ = hypervisor.ended() => return,
            () = end_of(&mut helper) => {
                crate::output::failure(
                    "the machine's vsock ended unexpectedly, so the machine ends, too",
                );
                return hypervisor.kill().await;
            }
            () = self.stop.notified() => {}
            () = self.grow_idle(ready, idle_stop) => {}
        }
        self.phase.send_replace(Phase::Stopping);
        self.shut_guest_down(ready).await;
        let patience = tokio::time::timeout(SHUTDOWN_PATIENCE, hypervisor.ended());
        if patience.await.is_err() {
            self.place.hypervisor.cut_power(&self.place.layout).await;
            hypervisor.kill().await;
        }
    }

    /// Looks after the guest until it has not been used for `limit`. Every look
    /// sets the guest's clock, too, which falls behind while the host sleeps.
    async fn grow_idle(&self, ready: &Ready, limit: Option<Duration>) {
        let beat = limit.map_or(HEARTBEAT, |limit| HEARTBEAT.min(limit / 4));
        loop {
            tokio::time::sleep(beat).await;
            let asked = ask_agent(ready, &Request::Activity);
            let answer = tokio::time::timeout(AGENT_PATIENCE, asked).await;
            if is_in_use(answer.ok().and_then(Result::ok).as_ref()) {
                self.last_use.set(Instant::now());
            }
            if limit.is_some_and(|limit| self.last_use.get().elapsed() >= limit) {
                return;
            }
        }
    }

    /// Where it does not listen, the power is cut later.
    async fn shut_guest_down(&self, ready: &Ready) {
        let asked = async {
            // For those who ask while the machine is down.
            note_containers(&self.place.paths.machine(), ready).await;
            let Place {
                hypervisor, layout, ..
            } = &self.place;
            hypervisor.shut_down(layout, ready).await;
        };
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, asked).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Client;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_has_connected_when_a_supervisor_ends_is_still_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut clients = [(); 2].map(|()| Client::connect(&path).unwrap());
        clients[0].write_all(b"hello").unwrap();
        let mut streams = waiting(listener);
        assert_eq!(streams.len(), 2);
        let mut heard = [0; 5];
        streams[0].read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        streams[0].write_all(b"bye").await.unwrap();
        drop(streams);
        let mut said = String::new();
        clients[0].read_to_string(&mut said).unwrap();
        assert_eq!(said, "bye");
        assert!(Client::connect(&path).is_err());
    }
}
