//! A container's output so far, and as it comes.

use std::fs::File;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::{
    ClientControl, Frame, LogRange, OUTPUT_WINDOW, Reply, StreamId, Transport, TransportError,
    WireError,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::container::log::LogReader;
use crate::server::{Engine, container_error};

/// How long a follower waits before it looks for more.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines are gathered up to this much before they are sent.
const BATCH: usize = OUTPUT_WINDOW / 4;

impl Engine {
    pub(super) async fn logs<S>(
        &self,
        client: &mut Transport<S>,
        container: &str,
        follow: bool,
        wanted: LogRange,
    ) -> Result<Result<Reply, WireError>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let dir = match self.containers.find(container) {
            Ok(dir) => dir,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut room = OUTPUT_WINDOW;
        let mut log = match File::open(dir.log()) {
            Ok(file) => match LogReader::new(file, wanted) {
                Ok(reader) => reader,
                Err(error) => return Ok(Err(container_error(container, error))),
            },
            // It never started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Reply::Done)),
            Err(error) => return Ok(Err(container_error(container, error))),
        };
        loop {
            // Asked before reading, so that the last read sees everything.
            let over = !follow || !dir.is_alive() || log.is_past();
            loop {
                match log.next(BATCH) {
                    Ok(Some((stream, bytes))) => send(client, stream, bytes, &mut room).await?,
                    Ok(None) => break,
                    Err(error) => return Ok(Err(container_error(container, error))),
                }
            }
            if over {
                return Ok(Ok(Reply::Done));
            }
            // A client that has gone is noticed here too.
            tokio::select! {
                said = client.receive_message() => room = taken(room, &said?)?,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// Sends bytes as far as the client passes them on.
pub(super) async fn send<S>(
    client: &mut Transport<S>,
    stream: StreamId,
    bytes: Vec<u8>,
    room: &mut usize,
) -> Result<(), TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Bytes::from(bytes);
    while !bytes.is_empty() {
        if *room == 0 {
            *room = taken(*room, &client.receive_message().await?)?;
            continue;
        }
        let piece = bytes.split_to(bytes.len().min(*room));
        *room -= piece.len();
        client.send(&Frame::Data(stream, piece)).await?;
    }
    Ok(())
}

/// The room there is after what a client said.
pub(super) fn taken(room: usize, said: &ClientControl) -> Result<usize, TransportError> {
    match said {
        ClientControl::OutputTaken(count) => Ok((room + *count as usize).min(OUTPUT_WINDOW)),
        _ => Err(TransportError::OutOfTurn),
    }
}
