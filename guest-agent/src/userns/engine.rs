//! The engine inside, for one command: it serves the command's conversations, each
//! on a socket that it is sent, and ends with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use isolazi_protocol::{ErrorCode, WireError};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::server::{Engine, EngineConfig, serve};
use crate::sys::channel;

/// How it is recognised, by itself and in `ps`.
pub(super) const ARGV0: &str = "isolazi-engine";

/// What is under way when the command has gone may take so long to be undone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the command is told first, on the engine's standard output: what its user
/// has to know, or why there is no engine.
pub(super) type Report = Result<Vec<String>, WireError>;

/// Says it, and nothing more.
pub(super) fn report(report: &Report) {
    let mut stdout = io::stdout().lock();
    // A command that has gone needs no answer.
    let _ = serde_json::to_writer(&mut stdout, report);
    let _ = stdout.flush();
    drop(stdout);
    if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(nowhere);
    }
}

/// Serves the data root that is the first argument; the others are notes.
pub(super) fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let root = words.next().map(PathBuf::from).unwrap_or_default();
    let notes = words.map(|it| it.to_string_lossy().into_owned()).collect();
    let opened = prepare().and_then(|control| {
        let engine = Engine::open(EngineConfig { root, guest: None })?;
        engine.sweep();
        Ok((control, Arc::new(engine)))
    });
    let (control, engine) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report(&Err(error));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            report(&Ok(notes));
            runtime.block_on(live(control, engine));
            runtime.shutdown_background();
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&Err(internal(&error)));
            ExitCode::FAILURE
        }
    }
}

fn internal(error: &io::Error) -> WireError {
    WireError::new(
        ErrorCode::Internal,
        format!("cannot start the engine: {error}"),
    )
}

/// Takes the socket that came as standard input to where no container gets it.
fn prepare() -> Result<OwnedFd, WireError> {
    let take = || {
        let control = io::stdin().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(control)
    };
    take().map_err(|error: io::Error| internal(&error))
}

async fn live(control: OwnedFd, engine: Arc<Engine>) {
    let (sender, mut calls) = mpsc::unbounded_channel();
    std::thread::spawn(move || listen(&control, &sender));
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            call = calls.recv() => match call {
                Some(stream) => {
                    let engine = Arc::clone(&engine);
                    if let Ok(stream) = UnixStream::from_std(stream) {
                        conversations.spawn(async move { serve(stream, engine).await });
                    }
                }
                None => break,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
    let finish = async { while conversations.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(PATIENCE, finish).await;
}

/// Receives one socket after the other until the command has gone.
fn listen(control: &OwnedFd, calls: &mpsc::UnboundedSender<StdUnixStream>) {
    let mut byte = [0];
    while let Ok(received) = channel::receive(control.as_fd(), &mut byte) {
        let Some(socket) = received.descriptor else {
            return;
        };
        let stream = StdUnixStream::from(socket);
        if stream.set_nonblocking(true).is_err() || calls.send(stream).is_err() {
            return;
        }
    }
}
