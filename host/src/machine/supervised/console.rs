//! What the guest prints: its end, in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The agent prints this when it listens.
const READY_LINE: &str = "isolazi: ready";
/// So much is kept for an error message, in bytes.
const TAIL: usize = 16 << 10;
/// So many lines are shown.
const SHOWN_LINES: usize = 5;
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

    /// What the guest has just printed.
    pub(crate) fn remember(&self, bytes: &[u8]) {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

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
