//! What the guest prints: its start in a file, its end in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;

/// The agent prints this when it listens.
const READY_LINE: &str = "isolazi: ready";
/// So much is kept for an error message, in bytes.
const TAIL: usize = 16 << 10;
/// So much goes to the log file, in bytes.
const LOG: u64 = 1 << 20;
/// So many lines are shown.
const SHOWN_LINES: usize = 5;
/// How long QEMU may take to open the socket.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(1);
/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The console of a machine that runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Console {
    tail: Arc<Mutex<Vec<u8>>>,
    /// The agent says that it listens.
    pub(crate) ready: Arc<Notify>,
}

impl Console {
    /// Follows what comes out of QEMU's `socket`, which it is about to open.
    pub(crate) fn follow(socket: PathBuf, log: File) -> Self {
        let console = Self::default();
        let own = console.clone();
        tokio::spawn(async move {
            if let Some(stream) = connect(&socket).await {
                own.keep(stream, log).await;
            }
        });
        console
    }

    /// Follows what the hypervisor writes to `log`, for as long as anybody holds the value.
    pub(crate) fn follow_file(log: PathBuf) -> Self {
        let console = Self::default();
        let (tail, ready) = (
            Arc::downgrade(&console.tail),
            Arc::downgrade(&console.ready),
        );
        tokio::spawn(async move {
            let mut read = 0;
            while let (Some(tail), Some(ready)) = (tail.upgrade(), ready.upgrade()) {
                let console = Self { tail, ready };
                match new_bytes(&log, read) {
                    Ok(bytes) if !bytes.is_empty() => {
                        read += bytes.len() as u64;
                        console.remember(&bytes);
                    }
                    _ => {
                        drop(console);
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
        });
        console
    }

    /// The last lines, as one line in which nothing can pose as ours.
    pub(crate) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        match last.is_empty() {
            true => "(nothing)".to_owned(),
            false => crate::output::printable(&last.join(" | ")),
        }
    }

    async fn keep(&self, mut stream: UnixStream, mut log: File) {
        let written = log.metadata().map_or(0, |log| log.len());
        let mut room = LOG.saturating_sub(written) as usize;
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let bytes = &buffer[..count];
            let logged = &bytes[..count.min(room)];
            room -= logged.len();
            // The console is a convenience; the machine runs without its log.
            let _ = log.write_all(logged);
            self.remember(bytes);
        }
    }

    fn remember(&self, bytes: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
        if String::from_utf8_lossy(&tail).contains(READY_LINE) {
            self.ready.notify_one();
        }
    }
}

/// What the file has behind its first bytes, up to as much as is kept.
fn new_bytes(log: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn connect(socket: &Path) -> Option<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Some(stream);
        }
        tokio::time::sleep(RETRY).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn the_agents_word_is_heard_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, log) = (folder.path().join("s"), folder.path().join("log"));
        let console = Console::follow(socket.clone(), File::create(&log).unwrap());
        assert_eq!(console.tail(), "(nothing)");
        let listener = UnixListener::bind(&socket).unwrap();
        let (mut guest, _) = listener.accept().await.unwrap();
        guest.write_all(b"\x1b[1mhi\nisolazi: rea").await.unwrap();
        guest.write_all(b"dy\n").await.unwrap();
        console.ready.notified().await;
        assert_eq!(console.tail(), "\\u{1b}[1mhi | isolazi: ready");
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("ready\n"));
    }

    #[tokio::test]
    async fn a_file_that_another_writes_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = File::create(&path).unwrap();
        let console = Console::follow_file(path);
        log.write_all(b"hi\nisolazi: rea").unwrap();
        tokio::time::sleep(3 * LOOK).await;
        log.write_all(b"dy\n").unwrap();
        console.ready.notified().await;
        assert_eq!(console.tail(), "hi | isolazi: ready");
    }
}
