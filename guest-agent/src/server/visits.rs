//! Requests that look into containers, or copy into and out of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::{
    ClientControl, Compression, ContainerUsage, Content, ErrorCode, Event, Frame, OUTPUT_WINDOW,
    PathInfo, PieceReader, Reply, ServerMessage, StreamId, Transport, TransportError, WireError,
};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::cgroup::Cgroup;
use crate::container::ContainerDir;
use crate::server::layers;
use crate::server::logs::{send, taken};
use crate::server::{Engine, io_error};
use crate::visit::{self, Pieces, VisitError, changes, processes};

/// Bytes sent at a time, and how many of these may wait.
const PIECE: usize = OUTPUT_WINDOW / 4;
const QUEUED: usize = 4;

/// What is being read has come this far.
enum Piece {
    Path(PathInfo),
    Bytes(Vec<u8>),
}

impl Engine {
    pub(super) async fn path_info(
        &self,
        container: &str,
        path: String,
    ) -> Result<Reply, WireError> {
        let dir = self.visited(container)?;
        let info = blocking(move || visit::path_info(&dir, &path)).await?;
        Ok(Reply::Path(info))
    }

    pub(super) async fn processes(&self, container: &str) -> Result<Reply, WireError> {
        let dir = self.visited(container)?;
        let found = blocking(move || processes::processes(&dir)).await?;
        Ok(Reply::Processes(found))
    }

    /// Sends what is read of a container as fast as the client takes it.
    pub(super) async fn read<S>(
        &self,
        client: &mut Transport<S>,
        container: &str,
        content: Content,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let dir = match self.visited(container) {
            Ok(dir) => dir,
            Err(error) => return Ok(Err(error)),
        };
        let (sender, mut pieces) = mpsc::channel(QUEUED);
        let mut room = OUTPUT_WINDOW;
        let reading = tokio::spawn(blocking(move || produce(&dir, &content, &sender)));
        loop {
            // A client that has gone is noticed here too.
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                said = client.receive_message::<ClientControl>() => {
                    room = taken(room, &said?)?;
                    continue;
                }
            };
            match piece {
                Some(Piece::Bytes(bytes)) => send(client, StreamId::Bulk, bytes, &mut room).await?,
                Some(Piece::Path(info)) => {
                    let event = ServerMessage::Event(Event::Path(info));
                    client.send_message(&event).await?;
                }
                None => break,
            }
        }
        let result = reading.await.unwrap_or_else(|_| Err(unexpected()));
        if result.is_ok() {
            client.send(&Frame::end(StreamId::Bulk)).await?;
        }
        Ok(result.map(|()| Reply::Done))
    }

    /// Unpacks what the client sends in a container.
    pub(super) async fn write<S>(
        &self,
        client: &mut Transport<S>,
        container: &str,
        path: String,
        compression: Compression,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let dir = match self.visited(container) {
            Ok(dir) => dir,
            Err(error) => return Ok(Err(error)),
        };
        let (sender, pieces) = mpsc::channel::<Bytes>(QUEUED);
        let archive = PieceReader::new(pieces);
        let writing = tokio::spawn(blocking(move || {
            visit::write(&dir, &path, archive, compression)
        }));
        let result = layers::feed(client, sender, writing).await?;
        Ok(result.map(|()| Reply::Done))
    }

    /// What containers use; a name that nothing answers to is an error.
    pub(super) fn usage(self: &Arc<Self>, names: &[String], all: bool) -> Result<Reply, WireError> {
        let dirs: Vec<ContainerDir> = match names {
            [] => {
                let listed = self.containers.list(all).into_iter();
                let found = listed.filter_map(|it| self.containers.find(it.id.as_str()).ok());
                found.collect()
            }
            names => {
                let found = names.iter().map(|name| self.containers.find(name));
                found.collect::<Result<_, _>>()?
            }
        };
        let named = !names.is_empty();
        let mut usages = Vec::new();
        for dir in dirs {
            match usage(&dir) {
                Ok(usage) => usages.push(usage),
                Err(error) if named => {
                    return Err(io_error(&dir.path().display().to_string(), error));
                }
                // It is just being removed.
                Err(_) => {}
            }
        }
        Ok(Reply::Usage(usages))
    }

    fn visited(&self, container: &str) -> Result<ContainerDir, WireError> {
        Self::require_root()?;
        Ok(self.containers.find(container)?)
    }
}

/// Reads on a thread where that may block.
fn produce(
    dir: &ContainerDir,
    content: &Content,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), VisitError> {
    let give = |piece| {
        let given = sender.blocking_send(piece);
        given.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    let out = || Pieces::new(PIECE, |bytes| give(Piece::Bytes(bytes)));
    match content {
        Content::Path { path, follow, name } => {
            visit::read_path(dir, path, *follow, name, |info| {
                // A client that has gone shows when the first bytes are sent.
                let _ = give(Piece::Path(info));
                out()
            })
        }
        Content::Root => visit::read_root(dir, out()),
        Content::Layer => changes::layer(dir, out()),
        Content::Changes => changes::list(dir, out()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VisitError> + Send + 'static,
) -> Result<T, WireError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(unexpected()),
    }
}

fn unexpected() -> WireError {
    WireError::new(
        ErrorCode::Internal,
        "looking into the container failed unexpectedly; please report this",
    )
}

fn usage(dir: &ContainerDir) -> io::Result<ContainerUsage> {
    let summary = dir.summary(dir.state()?)?;
    let mut usage = ContainerUsage {
        id: summary.id,
        name: summary.name,
        running: false,
        read_at: monotonic(),
        cpu_time: 0,
        memory: 0,
        memory_limit: 0,
        network: None,
        block: None,
        pids: 0,
    };
    let Some(pid) = summary.state.pid() else {
        return Ok(usage);
    };
    let used = Cgroup::of_process(Pid::from_raw(pid)).usage();
    let network = network(pid);
    // A number that is another process's by now tells nothing.
    if dir.state()?.pid() != Some(pid) {
        return Ok(usage);
    }
    let machine = machine_memory();
    usage.running = true;
    usage.cpu_time = used.cpu_time;
    usage.memory = used.memory;
    usage.memory_limit = used
        .memory_limit
        .map_or(machine, |limit| limit.min(machine));
    usage.network = network;
    usage.block = used.block;
    usage.pids = used.pids;
    Ok(usage)
}

/// Nanoseconds since some moment of this machine's.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// Bytes received and sent on the interfaces of a process, loopback left out.
fn network(pid: i32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    interfaces(&text)
}

/// proc_pid_net(5): name, eight numbers received, eight sent.
fn interfaces(text: &str) -> Option<(u64, u64)> {
    let counted = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let number = |index| numbers.split_whitespace().nth(index)?.parse::<u64>().ok();
        (name.trim() != "lo").then_some((number(0)?, number(8)?))
    });
    counted.reduce(|(a, b), (c, d)| (a + c, b + d))
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_summed_without_loopback() {
        let lo = "    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n";
        let heading = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n";
        assert_eq!(interfaces(&format!("{heading}{lo}")), None);
        let eth =
            "  eth0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n eth1:1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n";
        assert_eq!(interfaces(&format!("{heading}{lo}{eth}")), Some((101, 9)));
    }
}
