//! Listens in on what a machine's host and guest say to each other.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Host,
    Guest,
}

/// Everything that one side said before the other did.
#[derive(Debug)]
struct Turn {
    side: Side,
    bytes: Vec<u8>,
}

type Record = Arc<Mutex<Vec<Turn>>>;

/// Stands in the place of a machine's vsock socket, and passes everything on.
/// Dropping it gives the place back.
#[derive(Debug)]
pub struct Wiretap {
    socket: PathBuf,
    moved: PathBuf,
    record: Record,
}

impl Wiretap {
    /// Listens in at `socket`.
    pub fn on(socket: &Path) -> Result<Self> {
        let moved = socket.with_extension("tapped");
        fs::rename(socket, &moved)
            .with_context(|| format!("there is no machine at {}", socket.display()))?;
        let tap = Self {
            socket: socket.to_owned(),
            moved,
            record: Record::default(),
        };
        let listener = UnixListener::bind(socket)?;
        let (moved, record) = (tap.moved.clone(), Arc::clone(&tap.record));
        thread::spawn(move || {
            for host in listener.incoming().flatten() {
                // A machine that has gone is the host's to complain about.
                drop(pass_on(&host, &moved, &record));
            }
        });
        Ok(tap)
    }

    /// How often the host waited for the guest until the guest said `marker`;
    /// `None` where it never did.
    pub fn round_trips_until(&self, marker: &[u8]) -> Option<usize> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let says_it = |turn: &Turn| {
            turn.side == Side::Guest && turn.bytes.windows(marker.len()).any(|it| it == marker)
        };
        let end = record.iter().position(says_it)?;
        let answered = record[..=end].iter().filter(|it| it.side == Side::Guest);
        Some(answered.count())
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        drop(fs::rename(&self.moved, &self.socket));
    }
}

fn pass_on(host: &UnixStream, socket: &Path, record: &Record) -> Result<()> {
    let guest = UnixStream::connect(socket)?;
    for (side, from, to) in [(Side::Host, host, &guest), (Side::Guest, &guest, host)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let record = Arc::clone(record);
        thread::spawn(move || copy(side, from, to, &record));
    }
    Ok(())
}

fn copy(side: Side, mut from: UnixStream, mut to: UnixStream, record: &Record) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        note(record, side, &buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn note(record: &Record, side: Side, bytes: &[u8]) {
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    match record.last_mut() {
        Some(turn) if turn.side == side => turn.bytes.extend_from_slice(bytes),
        _ => record.push(Turn {
            side,
            bytes: bytes.to_vec(),
        }),
    }
}
