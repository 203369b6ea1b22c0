//! A container's output so far, and as it comes.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::{
    ClientControl, Frame, OUTPUT_WINDOW, Reply, StreamId, Transport, TransportError, WireError,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::container::log::parse_line;
use crate::server::{Engine, io_error};

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
            Ok(file) => LogReader::new(file),
            // It never started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Reply::Done)),
            Err(error) => return Ok(Err(io_error(container, error))),
        };
        loop {
            // Asked before reading, so that the last read sees everything.
            let over = !follow || !dir.is_alive();
            loop {
                match log.next() {
                    Ok(Some((stream, bytes))) => send(client, stream, bytes, &mut room).await?,
                    Ok(None) => break,
                    Err(error) => return Ok(Err(io_error(container, error))),
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

/// Reads whole lines, also while more are being written.
struct LogReader {
    file: BufReader<File>,
    line: Vec<u8>,
    /// The first line that belongs to another stream than the batch before it.
    ahead: Option<(StreamId, Vec<u8>)>,
}

impl LogReader {
    fn new(file: File) -> Self {
        Self {
            file: BufReader::with_capacity(BATCH, file),
            line: Vec::new(),
            ahead: None,
        }
    }

    /// The next run of bytes of one stream; `None` at the present end.
    fn next(&mut self) -> io::Result<Option<(StreamId, Vec<u8>)>> {
        let Some((stream, mut batch)) = self
            .ahead
            .take()
            .map_or_else(|| self.line(), |line| Ok(Some(line)))?
        else {
            return Ok(None);
        };
        while batch.len() < BATCH {
            match self.line()? {
                Some((same, bytes)) if same == stream => batch.extend_from_slice(&bytes),
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        Ok(Some((stream, batch)))
    }

    fn line(&mut self) -> io::Result<Option<(StreamId, Vec<u8>)>> {
        loop {
            self.line.clear();
            let count = self.file.read_until(b'\n', &mut self.line)?;
            let Some(line) = self.line.strip_suffix(b"\n") else {
                // Half a line: it is read again when the rest is there.
                self.file.seek_relative(-(count as i64))?;
                return Ok(None);
            };
            if let Some(parsed) = parse_line(line) {
                return Ok(Some(parsed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_still_being_written_is_read_once_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = LogReader::new(file.reopen().unwrap());
        file.write_all(b"t stdout F a\nt stdout P b\nt stderr F c\nt std")
            .unwrap();
        assert_eq!(
            reader.next().unwrap(),
            Some((StreamId::Stdout, b"a\nb".to_vec()))
        );
        assert_eq!(
            reader.next().unwrap(),
            Some((StreamId::Stderr, b"c\n".to_vec()))
        );
        assert_eq!(reader.next().unwrap(), None);
        file.write_all(b"out F d\n").unwrap();
        assert_eq!(
            reader.next().unwrap(),
            Some((StreamId::Stdout, b"d\n".to_vec()))
        );
    }
}
