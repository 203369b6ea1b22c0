//! The shim's life, from the lock it is given to the state it leaves behind.
//!
//! ```text
//!  launch ─► follow to its end ─► restart? ─ no ─► record the end
//!    ▲                               │ yes
//!    └───────── after a pause ───────┘
//! ```
//!
//! Meanwhile the [`door`](super::door) answers whoever calls.

use std::cell::{Cell, Ref, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use isolazi_protocol::{
    CgroupLimits, ContainerState, ErrorCode, ExecSpec, Health, Reply, RestartPolicy, ServerMessage,
    Transport, WireError,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinSet, spawn_local};

use crate::cgroup;
use crate::container::lifecycle::{self, Action, End, Verdict, judge};
use crate::container::log::LogWriter;
use crate::container::{ContainerDir, ContainerStore, now};
use crate::events;
use crate::launch::plan::CgroupPlan;
use crate::launch::{self, LaunchError};
use crate::shim::network::Joined;
use crate::shim::process::{Process, streams};
use crate::shim::running::{Running, Started};
use crate::shim::wire::ShimStart;
use crate::shim::{door, health};
use crate::volume::VolumeStore;

/// Who wants the container to end for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoppedBy {
    /// A user, who may not want it back at the next boot.
    User,
    /// The engine, with the machine.
    Engine,
}

/// One container's keeper.
pub(super) struct Shim {
    pub(super) dir: ContainerDir,
    pub(super) start: RefCell<ShimStart>,
    lock: File,
    state: RefCell<ContainerState>,
    launched: Cell<Instant>,
    /// How often it was suspended.
    pauses: Cell<u32>,
    /// It has been started by this shim before.
    has_started: Cell<bool>,
    /// Its end is that of a `stop`.
    asked_to_stop: Cell<bool>,
    process: RefCell<Option<Rc<Process>>>,
    pub(super) network: RefCell<Option<Joined>>,
    restart: Cell<RestartPolicy>,
    stopped: Cell<Option<StoppedBy>>,
    /// Wakes a shim that waits to start the container again.
    stop: Notify,
    /// The container's end is recorded.
    over: watch::Sender<bool>,
}

impl Shim {
    pub(super) fn new(start: ShimStart, lock: File) -> Self {
        Self {
            dir: ContainerDir::new(start.directory.clone()),
            lock,
            state: RefCell::new(ContainerState::Created),
            launched: Cell::new(Instant::now()),
            pauses: Cell::default(),
            has_started: Cell::default(),
            asked_to_stop: Cell::default(),
            process: RefCell::default(),
            network: RefCell::default(),
            restart: Cell::new(start.restart),
            stopped: Cell::default(),
            stop: Notify::new(),
            over: watch::channel(false).0,
            start: RefCell::new(start),
        }
    }

    /// Launches the container and keeps it until its end.
    pub(super) async fn live(self, mut agent: Transport<UnixStream>) -> io::Result<()> {
        let listener = self.listen()?;
        let shim = Rc::new(self);
        if shim.start().attach {
            shim.tell("attach", &[]);
        }
        let started = match shim.launch().await {
            Ok(started) => started,
            Err(error) => {
                let failed = shim.fail(&mut agent, error).await;
                drop(agent);
                shim.leave_networks().await;
                return failed;
            }
        };
        let attach = shim.start().attach;
        let running = started.announce(agent, attach).await;
        let (closing, closed) = oneshot::channel();
        let accepting = spawn_local(door::accept(Rc::clone(&shim), listener, closed));
        let kept = shim.keep(running).await;
        drop(closing);
        let _ = accepting.await;
        shim.leave_networks().await;
        kept
    }

    fn listen(&self) -> io::Result<UnixListener> {
        let folder = File::open(self.dir.path())?;
        let address = format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd());
        match std::fs::remove_file(self.dir.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(address)
    }

    /// Tells the journal of events.
    pub(super) fn tell(&self, action: &str, further: events::Further<'_>) {
        events::container(&self.dir, action, further);
    }

    /// Follows the container to its end, through all restarts.
    async fn keep(self: &Rc<Self>, mut running: Running) -> io::Result<()> {
        let mut farewells = JoinSet::new();
        let mut restarts = 0;
        let ended = loop {
            let code = running.ended().await;
            let end = End {
                code,
                lived: self.launched.get().elapsed(),
                stopped: self.stopped.get().is_some(),
            };
            let Some(pause) = lifecycle::restart_after(self.restart.get(), end, restarts) else {
                let ended = self.end(code, None).await;
                farewells.spawn_local(running.finish(code));
                break ended;
            };
            restarts = lifecycle::counted(restarts, end.lived);
            self.rest(code, restarts)?;
            farewells.spawn_local(running.finish(code));
            if self.is_stopped_within(pause).await {
                break self.end(code, None).await;
            }
            running = match self.launch().await {
                Ok(started) => started.unannounced(),
                Err(error) => break self.end(status_of(&error), Some(error.message)).await,
            };
        };
        while farewells.join_next().await.is_some() {}
        ended
    }

    async fn launch(self: &Rc<Self>) -> Result<Started, WireError> {
        let internal = |what: &'static str| {
            move |error: io::Error| WireError::new(ErrorCode::Internal, format!("{what}: {error}"))
        };
        self.join_networks().await?;
        let start = self.start();
        let spec = &start.plan.process;
        let log = LogWriter::open(&self.dir.log())
            .map_err(internal("cannot open the container's log"))?;
        let (stdio, ends) = streams(spec.terminal, spec.open_stdin)
            .map_err(internal("cannot make the container's standard streams"))?;
        let network = self.network.borrow();
        let namespace = network.as_ref().unwrap_or(&Joined::Alone).namespace();
        let launched = launch::start(&start.plan, stdio, namespace);
        drop(network);
        let joined = self.network.take();
        self.network.replace(joined.map(Joined::settled));
        let mut launched = launched.map_err(|error| to_wire(&error))?;
        let network = self.network.borrow();
        let warning = network.as_ref().and_then(Joined::warning);
        launched.warnings.extend(warning);
        drop(network);
        self.launched.set(Instant::now());
        if start.health.is_some() {
            self.keep_health(&Health::default(), false);
        }
        let state = ContainerState::Running {
            pid: launched.pid.as_raw(),
            started_at: now(),
        };
        self.record(state, false)
            .map_err(internal("cannot record the container's state"))?;
        let started = Started::adopt(launched, ends, Some(log))
            .map_err(internal("cannot follow the container's process"))?;
        self.process.replace(Some(Rc::clone(started.process())));
        self.tell_of_start();
        self.probe(started.process());
        Ok(started)
    }

    fn tell_of_start(&self) {
        events::volumes_of(&self.dir, "mount");
        self.tell("start", &[]);
        if self.start().restarts && !self.has_started.replace(true) {
            self.tell("restart", &[]);
        }
    }

    fn tell_of_end(&self, code: i32, oom_killed: bool) {
        if oom_killed {
            self.tell("oom", &[]);
        }
        self.tell("die", &[("exitCode", code.to_string())]);
        events::volumes_of(&self.dir, "unmount");
        if self.asked_to_stop.get() {
            self.tell("stop", &[]);
        }
    }

    /// Has the process probed that was just launched.
    fn probe(self: &Rc<Self>, process: &Rc<Process>) {
        if let Some(check) = self.start().health.clone() {
            let (shim, process) = (Rc::clone(self), Rc::clone(process));
            spawn_local(health::watch(shim, process, check));
        }
    }

    /// Tells of a change, too.
    pub(super) fn keep_health(&self, health: &Health, changed: bool) {
        if let Err(error) = self.dir.set_health(health) {
            // A full disk must not end the container.
            eprintln!("shim: cannot record the container's health: {error}");
        }
        if changed {
            self.tell(&format!("health_status: {}", health.status.name()), &[]);
        }
    }

    /// How long its process has been running.
    pub(super) fn age(&self) -> Duration {
        self.launched.get().elapsed()
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(*self.state.borrow(), ContainerState::Paused { .. })
    }

    /// How often it was suspended so far.
    pub(super) fn pauses(&self) -> u32 {
        self.pauses.get()
    }

    /// Reports a container that could not start, to the caller and on disk.
    async fn fail(&self, agent: &mut Transport<UnixStream>, error: WireError) -> io::Result<()> {
        self.end(status_of(&error), Some(error.message.clone()))
            .await?;
        let reply = ServerMessage::Reply(Err(error));
        // The agent may be gone; the state on disk tells the same.
        let _ = agent.send_message(&reply).await;
        Ok(())
    }

    fn record(&self, state: ContainerState, durable: bool) -> io::Result<()> {
        self.dir.set_state(&state, durable)?;
        self.state.replace(state);
        Ok(())
    }

    /// Takes away what the ended process has left in the system. Whether the
    /// kernel had killed something of it for want of memory.
    fn clean_up(&self) -> bool {
        self.process.replace(None);
        let oom_killed = cgroup::has_killed(&self.start().plan.cgroup.path);
        for error in launch::cleanup(&self.start().plan) {
            eprintln!("shim: {error}");
        }
        oom_killed
    }

    /// Cleans up after an end that is not the last.
    fn rest(&self, code: i32, restarts: u32) -> io::Result<()> {
        let oom_killed = self.clean_up();
        let state = ContainerState::Restarting {
            code,
            restarts,
            finished_at: now(),
        };
        self.record(state, true)?;
        self.tell_of_end(code, oom_killed);
        Ok(())
    }

    /// Waits, unless somebody has the container stopped.
    async fn is_stopped_within(&self, pause: Duration) -> bool {
        if self.stopped.get().is_none() {
            let _ = tokio::time::timeout(pause, self.stop.notified()).await;
        }
        self.stopped.get().is_some()
    }

    /// Cleans up after the container and records its end, or removes it.
    async fn end(&self, code: i32, error: Option<String>) -> io::Result<()> {
        let oom_killed = self.clean_up();
        let auto_remove = self.start().auto_remove;
        let recorded = match auto_remove {
            true => {
                // Nobody waits for the address of a container that is gone for good, so
                // nobody waits for its cables to be removed.
                self.retire_from_networks().await;
                self.tell_of_end(code, oom_killed);
                self.remove()
            }
            false => {
                self.leave_networks().await;
                let recorded = self.record_end(code, error, oom_killed);
                self.tell_of_end(code, oom_killed);
                recorded
            }
        };
        let _ = self.lock.unlock();
        self.over.send_replace(true);
        recorded
    }

    /// Removes the container, and the volumes that were made for it alone.
    fn remove(&self) -> io::Result<()> {
        let store = ContainerStore::of(&self.dir).map_err(io::Error::other)?;
        let record = self.dir.record();
        store.delete(&self.dir).map_err(io::Error::other)?;
        if let Ok(record) = &record {
            events::of(record, &self.dir, "destroy", &[]);
        }
        let volumes = record.map(|record| record.spec.options.volumes);
        if let Ok(volumes) = volumes {
            let store = VolumeStore::new(store.engine().join("volumes"), store);
            if let Err(error) = store.remove_of(&volumes) {
                // They are in nobody's way, and `volume prune` finds them.
                eprintln!("shim: {error}");
            }
        }
        Ok(())
    }

    fn record_end(&self, code: i32, error: Option<String>, oom_killed: bool) -> io::Result<()> {
        let started_at = match *self.state.borrow() {
            ContainerState::Running { started_at, .. }
            | ContainerState::Paused { started_at, .. } => Some(started_at),
            _ => None,
        };
        let state = ContainerState::Exited {
            code,
            started_at,
            finished_at: now(),
            error,
            stopped: self.stopped.get() == Some(StoppedBy::User),
            oom_killed,
        };
        self.record(state, true)
    }

    pub(super) fn start(&self) -> Ref<'_, ShimStart> {
        self.start.borrow()
    }

    /// Keeps the container to these limits, now and when it starts again.
    pub(super) fn limit(&self, pids_limit: u64, limits: CgroupLimits) -> Result<Reply, WireError> {
        let cgroup = CgroupPlan {
            pids_limit,
            limits,
            ..self.start().plan.cgroup.clone()
        };
        // Between two lives there is no group.
        if self.process().is_some()
            && let Err(error) = cgroup::update(&cgroup.path, cgroup.pids_limit, &cgroup.limits)
        {
            // Those that were set already are taken back as far as they had been set.
            let old = self.start().plan.cgroup.clone();
            let _ = cgroup::update(&old.path, old.pids_limit, &old.limits);
            return Err(error.into());
        }
        self.start.borrow_mut().plan.cgroup = cgroup;
        Ok(Reply::Done)
    }

    /// The first process, while there is one.
    pub(super) fn process(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone()
    }

    /// The first process; an error where it has ended, and its end is not recorded yet.
    pub(super) fn living_process(&self) -> Result<Rc<Process>, WireError> {
        let ending = || {
            let message = "the container is just ending; look with: isolazi ps -a";
            WireError::new(ErrorCode::Conflict, message)
        };
        self.process().ok_or_else(ending)
    }

    pub(super) fn state(&self) -> Ref<'_, ContainerState> {
        self.state.borrow()
    }

    pub(super) fn stop_signal(&self) -> i32 {
        self.start().stop_signal
    }

    pub(super) fn set_restart(&self, policy: RestartPolicy) {
        self.restart.set(policy);
    }

    /// The next end is that of a `stop`.
    pub(super) fn stop_is_asked(&self) {
        self.asked_to_stop.set(true);
    }

    /// No restart follows the next end.
    pub(super) fn stop_for_good(&self, by: StoppedBy) {
        self.stopped.set(Some(by));
        self.stop.notify_one();
    }

    /// Waits until the container's end is recorded.
    pub(super) async fn over(&self) {
        // The sender outlives this borrow of it.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Whether there is something to do for `action`.
    pub(super) fn judge(&self, action: Action) -> Result<Verdict, WireError> {
        judge(action, &self.state()).map_err(|refusal| {
            let start = self.start();
            let id = start.plan.id.short();
            WireError::new(ErrorCode::Conflict, format!("container {id} {refusal}"))
        })
    }

    /// Suspends the container's processes, or lets them go on.
    pub(super) fn freeze(&self, frozen: bool) -> Result<Reply, WireError> {
        self.judge(if frozen {
            Action::Pause
        } else {
            Action::Unpause
        })?;
        let (ContainerState::Running { pid, started_at }
        | ContainerState::Paused { pid, started_at }) = *self.state()
        else {
            return Ok(Reply::Done);
        };
        let failed = |error: io::Error| {
            let code = match error.kind() {
                io::ErrorKind::Unsupported => ErrorCode::Unsupported,
                _ => ErrorCode::Internal,
            };
            let what = if frozen { "suspend" } else { "resume" };
            WireError::new(code, format!("cannot {what} the container: {error}"))
        };
        cgroup::freeze(&self.start().plan.cgroup.path, frozen).map_err(failed)?;
        if frozen {
            self.pauses.set(self.pauses.get().wrapping_add(1));
        }
        let state = match frozen {
            true => ContainerState::Paused { pid, started_at },
            false => ContainerState::Running { pid, started_at },
        };
        self.record(state, false).map_err(failed)?;
        self.tell(if frozen { "pause" } else { "unpause" }, &[]);
        Ok(Reply::Done)
    }

    pub(super) fn launch_exec(&self, spec: &ExecSpec) -> Result<Started, WireError> {
        self.judge(Action::Exec)?;
        let internal = |error: io::Error| {
            let message = format!("cannot prepare the process: {error}");
            WireError::new(ErrorCode::Internal, message)
        };
        let init = self.living_process()?;
        let (stdio, ends) = streams(spec.terminal, spec.open_stdin).map_err(internal)?;
        let start = self.start();
        let launched = launch::exec(&start.plan, spec, init.pid(), init.pidfd().as_fd(), stdio)
            .map_err(|error| to_wire(&error))?;
        Started::adopt(launched, ends, None).map_err(internal)
    }
}

/// The container's status where its command could not be started.
fn status_of(error: &WireError) -> i32 {
    match error.code {
        ErrorCode::NotExecutable => 126,
        ErrorCode::CommandNotFound => 127,
        _ => 125,
    }
}

fn to_wire(error: &LaunchError) -> WireError {
    WireError::new(error.code(), error.to_string())
}
