//! Requests about containers that exist.

use isolazi_protocol::{
    CgroupLimits, ContainerState, ErrorCode, Event, Reply, Resources, RestartPolicy, ServerMessage,
    Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::cgroup;
use crate::container::lifecycle::{Action, Verdict, judge};
use crate::container::{ContainerDir, StoreError, plan};
use crate::events;
use crate::server::{Engine, container_error, io_error};
use crate::shim::{self, ShimRequest};

/// How often a container that is just starting or ending may slip away.
pub(super) const ATTEMPTS: usize = 50;
pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Seconds that a container gets to end by itself where nobody says.
const STOP_TIMEOUT: u32 = 10;

impl Engine {
    pub(super) async fn list(&self, all: bool, size: bool) -> Result<Reply, WireError> {
        let containers = self.containers.list(all);
        if !size {
            return Ok(Reply::Containers(containers));
        }
        let store = self.containers.clone();
        let measured = tokio::task::spawn_blocking(move || store.measure(containers)).await;
        measured.map(Reply::Containers).map_err(|error| {
            WireError::new(
                ErrorCode::Internal,
                format!("cannot measure the containers: {error}"),
            )
        })
    }

    pub(super) fn inspect(&self, container: &str) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let detail = dir
            .detail()
            .map_err(|error| container_error(container, error))?;
        Ok(Reply::Container(Box::new(detail)))
    }

    /// Whether there is something to do for `action`.
    pub(super) fn judge(
        &self,
        container: &str,
        dir: &ContainerDir,
        action: Action,
    ) -> Result<Verdict, WireError> {
        let state = dir
            .state()
            .map_err(|error| container_error(container, error))?;
        judge(action, &state).map_err(|refusal| {
            let message = format!("container {container} {refusal}");
            WireError::new(ErrorCode::Conflict, message)
        })
    }

    /// Makes a request to the shim of a container that `action` is possible for; its answer
    /// has begun.
    pub(super) async fn call(
        &self,
        container: &str,
        action: Action,
        request: &ShimRequest,
    ) -> Result<UnixStream, WireError> {
        let dir = self.containers.find(container)?;
        for _ in 0..ATTEMPTS {
            self.judge(container, &dir, action)?;
            if let Ok(stream) = shim::ask(&dir, request).await {
                return Ok(stream);
            }
            // The shim is starting or ending, and has no open door.
            tokio::time::sleep(PAUSE).await;
        }
        Err(silent(container))
    }

    /// A request that the shim answers with its reply.
    async fn ask(
        &self,
        container: &str,
        action: Action,
        request: &ShimRequest,
    ) -> Result<Reply, WireError> {
        Self::require_root()?;
        let stream = self.call(container, action, request).await?;
        let mut shim = Transport::new(stream);
        match shim.receive_message().await {
            Ok(ServerMessage::Reply(reply)) => reply,
            _ => Err(silent(container)),
        }
    }

    pub(super) async fn kill(&self, container: &str, signal: &str) -> Result<Reply, WireError> {
        let number = plan::signal(signal)?;
        let request = ShimRequest::Signal { number };
        self.ask(container, Action::Kill, &request).await
    }

    pub(super) async fn freeze(&self, container: &str, frozen: bool) -> Result<Reply, WireError> {
        let action = if frozen {
            Action::Pause
        } else {
            Action::Unpause
        };
        self.ask(container, action, &ShimRequest::Freeze { frozen })
            .await
    }

    /// Says how the container ended, once it has.
    pub(super) async fn wait<S>(
        &self,
        client: &mut Transport<S>,
        container: &str,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.status_in_the_end(container).await {
            Ok(code) => {
                let exited = ServerMessage::Event(Event::Exited(code));
                client.send_message(&exited).await?;
                Ok(Ok(Reply::Done))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn status_in_the_end(&self, container: &str) -> Result<i32, WireError> {
        let dir = self.containers.find(container)?;
        loop {
            let state = dir
                .state()
                .map_err(|error| container_error(container, error))?;
            match state {
                ContainerState::Exited { code, .. } => return Ok(code),
                ContainerState::Created => return Ok(0),
                _ => {}
            }
            if let Ok(shim) = shim::ask(&dir, &ShimRequest::Wait).await
                && let Ok(ServerMessage::Event(Event::Exited(code))) =
                    Transport::new(shim).receive_message().await
            {
                return Ok(code);
            }
            // It is between two lives, or its shim was killed.
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn rename(&self, container: &str, name: &str) -> Result<Reply, WireError> {
        Self::require_root()?;
        let dir = self.containers.find(container)?;
        let old = dir.record().map_err(|error| io_error(container, error))?;
        self.containers.rename(&dir, name)?;
        self.rename_in_networks(&dir);
        events::container(&dir, "rename", &[("oldName", format!("/{}", old.name))]);
        Ok(Reply::Done)
    }

    /// Changes a container, at once where it runs, and for all further starts.
    pub(super) async fn update(
        &self,
        container: &str,
        restart: Option<RestartPolicy>,
        pids_limit: Option<u64>,
        limits: &CgroupLimits,
    ) -> Result<Reply, WireError> {
        Self::require_root()?;
        let dir = self.containers.find(container)?;
        let failed = |error| container_error(container, error);
        let mut record = dir.record().map_err(failed)?;
        let spec = &mut record.spec;
        let before = spec.resources.clone();
        spec.restart = restart.unwrap_or(spec.restart);
        spec.resources = Resources {
            pids_limit: pids_limit.unwrap_or(before.pids_limit),
            limits: before.limits.changed(limits),
        };
        plan::validate(spec)?;
        cgroup::check(&spec.resources.limits)?;
        if spec.resources != before {
            let request = ShimRequest::Limit {
                pids_limit: spec.resources.pids_limit,
                limits: Box::new(spec.resources.limits.clone()),
            };
            tell_shim(&dir, &request).await?;
        }
        dir.set_record(&record, true).map_err(failed)?;
        if let Some(policy) = restart {
            tell_shim(&dir, &ShimRequest::Restart { policy }).await?;
        }
        events::container(&dir, "update", &[]);
        Ok(Reply::Done)
    }

    /// Stopping what has ended already is no error, as with Docker.
    pub(super) async fn stop(
        &self,
        container: &str,
        timeout: Option<u32>,
    ) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let timeout = timeout.unwrap_or_else(|| stop_timeout(&dir));
        let request = ShimRequest::Stop {
            timeout,
            by_user: true,
            for_removal: false,
        };
        Self::end(container, &dir, &request).await
    }

    /// Repeats a request to stop until there is nothing to stop any more.
    async fn end(
        container: &str,
        dir: &ContainerDir,
        request: &ShimRequest,
    ) -> Result<Reply, WireError> {
        for _ in 0..ATTEMPTS {
            if !dir.is_alive() {
                return Ok(Reply::Done);
            }
            if ask_to_stop(dir, request).await {
                return Ok(Reply::Done);
            }
            // The shim is starting or ending, and has no open door.
            tokio::time::sleep(PAUSE).await;
        }
        Err(silent(container))
    }

    pub(super) async fn remove(
        &self,
        container: &str,
        force: bool,
        volumes: bool,
    ) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let record = dir.record().ok();
        for attempt in 1.. {
            if force && dir.is_alive() {
                let request = ShimRequest::Stop {
                    timeout: 0,
                    by_user: true,
                    for_removal: true,
                };
                Self::end(container, &dir, &request).await?;
            }
            // With --rm the shim has removed it by now.
            if !dir.path().exists() {
                break;
            }
            self.settled(container, &dir).await?;
            match self.containers.remove(&dir) {
                // Somebody has just started it again.
                Err(StoreError::Running(_)) if force && attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE).await;
                }
                removed => {
                    removed?;
                    if let Some(record) = &record {
                        events::of(record, &dir, "destroy", &[]);
                    }
                    break;
                }
            }
        }
        if let Some(record) = record.filter(|_| volumes) {
            self.volumes.remove_of(&record.spec.options.volumes)?;
        }
        Ok(Reply::Done)
    }

    /// Waits for the shim of a container that has ended to let go of it.
    pub(super) async fn settled(
        &self,
        container: &str,
        dir: &ContainerDir,
    ) -> Result<(), WireError> {
        for _ in 0..ATTEMPTS {
            let state = dir
                .state()
                .map_err(|error| container_error(container, error))?;
            if state.is_active() || !dir.is_alive() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Stops every running container, all at once.
    pub(super) async fn stop_all(&self, timeout: u32) {
        let request = move || ShimRequest::Stop {
            timeout,
            by_user: false,
            for_removal: false,
        };
        let stops: Vec<_> = self
            .containers
            .list(true)
            .into_iter()
            .filter(|container| container.state.is_active())
            .filter_map(|container| self.containers.find(container.id.as_str()).ok())
            .map(|dir| tokio::spawn(async move { ask_to_stop(&dir, &request()).await }))
            .collect();
        for stop in stops {
            // One that fails is ended with the guest.
            let _ = stop.await;
        }
    }
}

/// Has the shim of a container, if there is one, do something.
pub(super) async fn tell_shim(dir: &ContainerDir, request: &ShimRequest) -> Result<(), WireError> {
    if !dir.is_alive() {
        return Ok(());
    }
    // One that is ending has read its settings for the last time.
    let Ok(shim) = shim::ask(dir, request).await else {
        return Ok(());
    };
    match Transport::new(shim).receive_message().await {
        Ok(ServerMessage::Reply(reply)) => reply.map(drop),
        _ => Ok(()),
    }
}

/// What the container was made with.
fn stop_timeout(dir: &ContainerDir) -> u32 {
    let asked = dir
        .record()
        .ok()
        .and_then(|it| it.spec.options.stop_timeout);
    asked.unwrap_or(STOP_TIMEOUT)
}

/// Whether the shim was reached and confirmed the container's end.
async fn ask_to_stop(dir: &ContainerDir, request: &ShimRequest) -> bool {
    let Ok(stream) = shim::ask(dir, request).await else {
        return false;
    };
    let answer = Transport::new(stream)
        .receive_message::<ServerMessage>()
        .await;
    matches!(answer, Ok(ServerMessage::Reply(Ok(_))))
}

fn silent(container: &str) -> WireError {
    WireError::new(
        ErrorCode::Internal,
        format!(
            "container {container} does not answer; try again, or end its isolazi-shim process"
        ),
    )
}
