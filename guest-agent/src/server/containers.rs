//! Requests about containers that exist.

use isolazi_protocol::{ContainerState, ErrorCode, Reply, ServerMessage, Transport, WireError};

use crate::container::ContainerDir;
use crate::server::{Engine, io_error};
use crate::shim::{self, ShimRequest};

/// How often a container that is just ending may slip away from under a stop.
const STOP_ATTEMPTS: usize = 50;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Seconds that a container gets to end by itself where nobody says.
const STOP_TIMEOUT: u32 = 10;

impl Engine {
    pub(super) fn inspect(&self, container: &str) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let detail = dir.detail().map_err(|error| io_error(container, error))?;
        Ok(Reply::Container(Box::new(detail)))
    }

    /// Stopping what has ended already is no error, as with Docker.
    pub(super) async fn stop(
        &self,
        container: &str,
        timeout: Option<u32>,
    ) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let timeout = timeout.unwrap_or_else(|| stop_timeout(&dir));
        for _ in 0..STOP_ATTEMPTS {
            if !dir.is_alive() {
                return Ok(Reply::Done);
            }
            if ask_to_stop(&dir, timeout).await {
                return Ok(Reply::Done);
            }
            // The shim is starting or ending, and has no open door.
            tokio::time::sleep(PAUSE).await;
        }
        Err(WireError::new(
            ErrorCode::Internal,
            format!(
                "container {container} does not answer; try again, or end its isolazi-shim process"
            ),
        ))
    }

    pub(super) async fn remove(
        &self,
        container: &str,
        force: bool,
        volumes: bool,
    ) -> Result<Reply, WireError> {
        let dir = self.containers.find(container)?;
        let record = dir.record().ok().filter(|_| volumes);
        if force && dir.is_alive() {
            self.stop(container, Some(0)).await?;
        }
        // With --rm the shim has removed it by now.
        if dir.path().exists() {
            self.containers.remove(&dir)?;
        }
        if let Some(record) = record {
            self.volumes.remove_of(&record.spec.options.volumes)?;
        }
        Ok(Reply::Done)
    }

    /// Stops every running container, all at once.
    pub(super) async fn stop_all(&self, timeout: u32) {
        let stops: Vec<_> = self
            .containers
            .list(true)
            .into_iter()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }))
            .filter_map(|container| self.containers.find(container.id.as_str()).ok())
            .map(|dir| tokio::spawn(async move { ask_to_stop(&dir, timeout).await }))
            .collect();
        for stop in stops {
            // One that fails is ended with the guest.
            let _ = stop.await;
        }
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
async fn ask_to_stop(dir: &ContainerDir, timeout: u32) -> bool {
    let Ok(stream) = shim::connect(dir, &ShimRequest::Stop { timeout }).await else {
        return false;
    };
    let answer = Transport::new(stream)
        .receive_message::<ServerMessage>()
        .await;
    matches!(answer, Ok(ServerMessage::Reply(Ok(_))))
}
