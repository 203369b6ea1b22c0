//! The guest's console, which comes out of a socket of QEMU's: its start goes to a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::machine::supervised::Console;

/// So much goes to the log file, in bytes.
const LOG: u64 = 1 << 20;
/// How long QEMU may take to open the socket.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(1);

/// Follows what comes out of `socket`, which QEMU is about to open.
pub(super) fn follow(socket: PathBuf, log: File) -> Console {
    let console = Console::default();
    let own = console.clone();
    tokio::spawn(async move {
        if let Some(stream) = connect(&socket).await {
            keep(&own, stream, log).await;
        }
    });
    console
}

async fn keep(console: &Console, mut stream: UnixStream, mut log: File) {
    let written = log.metadata().map_or(0, |log| log.len());
    let mut room = LOG.saturating_sub(written) as usize;
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let logged = &bytes[..count.min(room)];
        room -= logged.len();
        // The console is a convenience; the machine runs without its log.
        let _ = log.write_all(logged);
        console.remember(bytes);
    }
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
        let console = follow(socket.clone(), File::create(&log).unwrap());
        assert_eq!(console.tail(), "(nothing)");
        let listener = UnixListener::bind(&socket).unwrap();
        let (mut guest, _) = listener.accept().await.unwrap();
        guest.write_all(b"\x1b[1mhi\nisolazi: rea").await.unwrap();
        guest.write_all(b"dy\n").await.unwrap();
        console.ready.notified().await;
        assert_eq!(console.tail(), "\\u{1b}[1mhi | isolazi: ready");
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("ready\n"));
    }
}
