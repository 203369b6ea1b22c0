//! The shim's life, from the lock it is given to the state it leaves behind.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use isolazi_protocol::{
    ContainerState, ErrorCode, ExecSpec, Reply, ServerMessage, Transport, WireError,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet, spawn_local};

use crate::container::log::LogWriter;
use crate::container::{ContainerDir, ContainerStore, now};
use crate::launch::{self, LaunchError};
use crate::shim::process::{Process, streams};
use crate::shim::running::Started;
use crate::shim::wire::{ShimRequest, ShimStart};
use crate::sys::descriptor;
use crate::volume::VolumeStore;

/// How a shim is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-shim";

/// Runs the shim if that is what this process was started as. To be called
/// first thing in `main`, before any thread exists.
pub fn run_if_shim() -> Option<ExitCode> {
    let is_shim = std::env::args_os().next().is_some_and(|name| name == ARGV0);
    is_shim.then(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run() -> io::Result<()> {
    let agent = detach()?;
    let lock = File::from(descriptor::receive(&agent)?);
    agent.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let mut agent = Transport::new(UnixStream::from_std(agent)?);
        let start: ShimStart = agent.receive_message().await.map_err(io::Error::other)?;
        Shim::new(start, lock)?.live(agent).await
    })
}

/// Leaves the session, folder and descriptors of whoever started the shim, and
/// returns the connection to the agent, which came as standard input.
fn detach() -> io::Result<StdUnixStream> {
    // Fails only for a process group leader, which a spawned child is not.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let agent = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    descriptor::close_from(3, agent.as_raw_fd())?;
    Ok(agent)
}

struct Shim {
    dir: ContainerDir,
    start: ShimStart,
    lock: File,
    started_at: RefCell<Option<u64>>,
}

impl Shim {
    fn new(start: ShimStart, lock: File) -> io::Result<Self> {
        Ok(Self {
            dir: ContainerDir::new(start.directory.clone()),
            start,
            lock,
            started_at: RefCell::default(),
        })
    }

    async fn live(self, mut agent: Transport<UnixStream>) -> io::Result<()> {
        let listener = self.listen()?;
        let shim = Rc::new(self);
        let started = match shim.launch() {
            Ok(started) => started,
            Err(error) => return shim.fail(&mut agent, error).await,
        };
        let mut running = started.announce(agent, shim.start.attach).await;
        let (closing, closed) = oneshot::channel();
        let process = Rc::clone(running.process());
        let accepting = spawn_local(Rc::clone(&shim).accept(listener, process, closed));
        let code = running.ended().await;
        shim.end(code, None)?;
        drop(closing);
        running.finish(code).await;
        let _ = accepting.await;
        Ok(())
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

    fn launch(&self) -> Result<Started, WireError> {
        let internal = |what: &'static str| {
            move |error: io::Error| WireError::new(ErrorCode::Internal, format!("{what}: {error}"))
        };
        let spec = &self.start.plan.process;
        let log = LogWriter::open(&self.dir.log())
            .map_err(internal("cannot open the container's log"))?;
        let (stdio, ends) = streams(spec.terminal, spec.open_stdin)
            .map_err(internal("cannot make the container's standard streams"))?;
        let launched = launch::start(&self.start.plan, stdio).map_err(|error| to_wire(&error))?;
        let started_at = now();
        self.started_at.replace(Some(started_at));
        let state = ContainerState::Running {
            pid: launched.pid.as_raw(),
            started_at,
        };
        self.dir
            .set_state(&state, false)
            .map_err(internal("cannot record the container's state"))?;
        Started::adopt(launched, ends, Some(log))
            .map_err(internal("cannot follow the container's process"))
    }

    /// Reports a container that could not start, to the caller and on disk.
    async fn fail(&self, agent: &mut Transport<UnixStream>, error: WireError) -> io::Result<()> {
        let code = match error.code {
            ErrorCode::NotExecutable => 126,
            ErrorCode::CommandNotFound => 127,
            _ => 125,
        };
        self.end(code, Some(error.message.clone()))?;
        let reply = ServerMessage::Reply(Err(error));
        // The agent may be gone; the state on disk tells the same.
        let _ = agent.send_message(&reply).await;
        Ok(())
    }

    /// Cleans up after the container and records its end, or removes it.
    fn end(&self, code: i32, error: Option<String>) -> io::Result<()> {
        for error in launch::cleanup(&self.start.plan) {
            eprintln!("shim: {error}");
        }
        if self.start.auto_remove {
            let store = self
                .dir
                .path()
                .parent()
                .map(|root| ContainerStore::open(root.to_owned()));
            if let Some(Ok(store)) = store {
                return self.remove(&store);
            }
        }
        let state = ContainerState::Exited {
            code,
            started_at: *self.started_at.borrow(),
            finished_at: now(),
            error,
        };
        let recorded = self.dir.set_state(&state, true);
        let _ = self.lock.unlock();
        recorded
    }

    /// Removes the container, and the volumes that were made for it alone.
    fn remove(&self, store: &ContainerStore) -> io::Result<()> {
        let record = self.dir.record();
        store.delete(&self.dir).map_err(io::Error::other)?;
        let volumes = record.map(|record| record.spec.options.volumes);
        let engine = self.start.directory.ancestors().nth(2);
        if let (Ok(volumes), Some(engine)) = (volumes, engine) {
            let store = VolumeStore::new(engine.join("volumes"), store.clone());
            if let Err(error) = store.remove_of(&volumes) {
                // They are in nobody's way, and `volume prune` finds them.
                eprintln!("shim: {error}");
            }
        }
        Ok(())
    }

    /// Serves callers until `closed`, and then those who are still there.
    async fn accept(
        self: Rc<Self>,
        listener: UnixListener,
        process: Rc<Process>,
        mut closed: oneshot::Receiver<()>,
    ) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut closed => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let shim = Rc::clone(&self);
                        sessions.spawn_local(shim.serve(Transport::new(stream), Rc::clone(&process)));
                    }
                    // Out of descriptors, at worst; a pause lets some return.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(_) = sessions.join_next() => {}
            }
        }
        drop(listener);
        while sessions.join_next().await.is_some() {}
    }

    async fn serve(self: Rc<Self>, mut client: Transport<UnixStream>, process: Rc<Process>) {
        match client.receive_message().await {
            Ok(ShimRequest::Exec { spec, attach }) => {
                self.exec(client, &spec, attach, &process).await;
            }
            Ok(ShimRequest::Stop { timeout }) => self.stop(client, timeout, process).await,
            // Whoever does not speak our language is not answered.
            Err(_) => {}
        }
    }

    async fn exec(
        &self,
        mut client: Transport<UnixStream>,
        spec: &ExecSpec,
        attach: bool,
        init: &Rc<Process>,
    ) {
        match self.launch_exec(spec, init) {
            Ok(started) => {
                let mut running = started.announce(client, attach).await;
                let code = running.ended().await;
                running.finish(code).await;
            }
            Err(error) => {
                let _ = client.send_message(&ServerMessage::Reply(Err(error))).await;
            }
        }
    }

    fn launch_exec(&self, spec: &ExecSpec, init: &Process) -> Result<Started, WireError> {
        let internal = |error: io::Error| {
            WireError::new(
                ErrorCode::Internal,
                format!("cannot prepare the process: {error}"),
            )
        };
        let (stdio, ends) = streams(spec.terminal, spec.open_stdin).map_err(internal)?;
        let launched = launch::exec(
            &self.start.plan,
            spec,
            init.pid(),
            init.pidfd().as_fd(),
            stdio,
        )
        .map_err(|error| to_wire(&error))?;
        Started::adopt(launched, ends, None).map_err(internal)
    }

    async fn stop(&self, mut client: Transport<UnixStream>, timeout: u32, process: Rc<Process>) {
        let grace = Duration::from_secs(timeout.into());
        if timeout > 0 {
            process.signal(self.start.stop_signal);
        }
        if tokio::time::timeout(grace, process.ended()).await.is_err() {
            process.signal(nix::libc::SIGKILL);
        }
        process.finished().await;
        let _ = client
            .send_message(&ServerMessage::Reply(Ok(Reply::Done)))
            .await;
    }
}

fn to_wire(error: &LaunchError) -> WireError {
    WireError::new(error.code(), error.to_string())
}
