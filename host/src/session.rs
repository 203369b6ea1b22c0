//! An attach session: the user's terminal or pipes on one side, a process of a
//! container on the other.
//!
//! ```text
//!  stdin ─► reader thread ─► window ─► Speaker ──►
//!  signals, window size ─────────────► Speaker ──►  agent
//!  stdout, stderr ◄─ output task ◄─── Listener ◄──
//! ```
//!
//! Input is sent only as far as the process takes it, so a signal never waits
//! behind input that nobody reads.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use isolazi_protocol::{ClientControl, Event, STDIN_WINDOW, StreamId};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

use crate::connection::{Conversation, ConversationError, Incoming, Listener, Speaker};
use crate::detach::{DetachKeys, Watch};
use crate::terminal::{self, RawMode, Signalled, Signals};

/// Read from standard input at once at the most.
const CHUNK: usize = 64 << 10;
/// So many interrupts that nothing reacts to end the command itself.
const PATIENCE: u32 = 3;
/// Acknowledgements that may wait; the window allows for few.
const TAKEN_QUEUED: usize = 16;
/// What the process is given to react when the terminal is gone.
const LAST_WORDS: Duration = Duration::from_millis(500);
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// How to attach.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Pass standard input on.
    pub stdin: bool,
    /// The process has a terminal.
    pub tty: bool,
    /// Keys that leave the terminal.
    pub detach: DetachKeys,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The process ended with this status.
    Exited(i32),
    /// The user left it running.
    Detached,
    /// The terminal is gone, and with it the user.
    HungUp,
}

/// Why a session ended before the process did.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The conversation with the agent failed.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// The terminal or the signals of this process.
    #[error("cannot set up the terminal")]
    Terminal(#[source] std::io::Error),
    /// Standard output or error is gone.
    #[error("cannot write the container's output")]
    Output(#[source] std::io::Error),
    /// The user asked three times.
    #[error("interrupted {PATIENCE} times; the container may still be running (isolazi ps)")]
    GivenUp,
}

/// Passes everything between the user and the process, until the process has
/// ended or the user leaves it.
pub async fn attach(conversation: Conversation, how: &Attach) -> Result<Ended, SessionError> {
    let mut signals = Signals::new().map_err(SessionError::Terminal)?;
    let _raw = match how.tty && how.stdin {
        true => RawMode::enter().map_err(SessionError::Terminal)?,
        false => None,
    };
    let (listener, speaker) = conversation.split();
    let window = Arc::new(Semaphore::new(STDIN_WINDOW));
    let (passed_on, mut taken) = mpsc::channel(TAKEN_QUEUED);
    let mut outputs = tokio::spawn(pass_output(listener, Arc::clone(&window), passed_on));
    let mut speaker = speaker;
    let mut input = how.stdin.then(|| Input::start(window));
    let mut watch = (how.tty && how.stdin).then(|| Watch::new(&how.detach));
    let mut interrupts = 0;
    loop {
        tokio::select! {
            ended = &mut outputs => {
                return ended.unwrap_or(Err(SessionError::GivenUp)).map(Ended::Exited);
            }
            signalled = signals.next() => {
                if matches!(signalled, Signalled::Forward(SIGINT | SIGTERM)) {
                    interrupts += 1;
                    if interrupts > PATIENCE {
                        return Err(SessionError::GivenUp);
                    }
                }
                // When the connection is gone, the output task says so.
                let _ = forward(&mut speaker, signalled, how.tty).await;
                if how.tty && signalled == Signalled::Forward(SIGHUP) {
                    // Long enough for the signal to be passed on.
                    let _ = tokio::time::timeout(LAST_WORDS, &mut outputs).await;
                    outputs.abort();
                    return Ok(Ended::HungUp);
                }
            }
            Some(count) = taken.recv() => {
                // When the connection is gone, the output task says so.
                let _ = speaker.control(&ClientControl::OutputTaken(count)).await;
            }
            bytes = next_input(&mut input) => {
                let ended = bytes.is_empty();
                let (bytes, detached) = match &mut watch {
                    Some(watch) if !ended => watch.pass(&bytes),
                    _ => (bytes, false),
                };
                // An empty piece would end the input.
                let sent = match bytes.is_empty() && !ended {
                    true => Ok(()),
                    false => speaker.data(StreamId::Stdin, bytes).await,
                };
                if detached {
                    outputs.abort();
                    return Ok(Ended::Detached);
                }
                if ended || sent.is_err() {
                    input = None;
                }
            }
        }
    }
}

async fn forward(
    speaker: &mut Speaker,
    signalled: Signalled,
    tty: bool,
) -> Result<(), ConversationError> {
    match signalled {
        Signalled::Forward(number) => speaker.control(&ClientControl::Signal(number)).await,
        Signalled::Resized => match terminal::size().filter(|_| tty) {
            Some(size) => speaker.control(&ClientControl::Resize(size)).await,
            None => Ok(()),
        },
    }
}

/// Standard input, as far as the process takes it.
struct Input {
    chunks: mpsc::Receiver<Bytes>,
    window: Arc<Semaphore>,
    pending: Bytes,
}

impl Input {
    fn start(window: Arc<Semaphore>) -> Self {
        let (sender, chunks) = mpsc::channel(1);
        // Reading from a terminal cannot be interrupted, so it has a thread
        // that nobody waits for.
        std::thread::spawn(move || {
            let mut keyboard = terminal::keyboard();
            let mut buffer = vec![0; CHUNK];
            loop {
                let count = match keyboard.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    result => result.unwrap_or(0),
                };
                let sent = sender.blocking_send(Bytes::copy_from_slice(&buffer[..count]));
                if count == 0 || sent.is_err() {
                    return;
                }
            }
        });
        Self {
            chunks,
            window,
            pending: Bytes::new(),
        }
    }

    /// The next piece that fits the window; empty at the end. Cancel-safe.
    async fn next(&mut self) -> Bytes {
        if self.pending.is_empty() {
            match self.chunks.recv().await {
                Some(chunk) if !chunk.is_empty() => self.pending = chunk,
                _ => return Bytes::new(),
            }
        }
        // The window is never closed.
        if let Ok(permit) = self.window.acquire().await {
            permit.forget();
        }
        let more = self.window.forget_permits(self.pending.len() - 1);
        self.pending.split_to(1 + more)
    }
}

async fn next_input(input: &mut Option<Input>) -> Bytes {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

async fn pass_output(
    mut listener: Listener,
    window: Arc<Semaphore>,
    passed_on: mpsc::Sender<u32>,
) -> Result<i32, SessionError> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut code = None;
    loop {
        match listener.next().await? {
            Incoming::Data(stream, bytes) => {
                let written = match stream {
                    StreamId::Stderr => write(&mut stderr, &bytes).await,
                    _ => write(&mut stdout, &bytes).await,
                };
                match written {
                    Ok(()) => {}
                    // A reader that has gone away ends the command quietly.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
                    Err(error) => return Err(SessionError::Output(error)),
                }
                // Frames are far smaller than 4 GiB; the session outlives this task.
                let _ = passed_on.send(bytes.len() as u32).await;
            }
            Incoming::Event(Event::StdinTaken(count)) => {
                window.add_permits((count as usize).min(STDIN_WINDOW));
            }
            Incoming::Event(Event::Exited(status)) => code = Some(status),
            Incoming::Event(_) => {}
            Incoming::Done(_) => return code.ok_or(ConversationError::Unexpected.into()),
        }
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    output.write_all(bytes).await?;
    output.flush().await
}
