//! The agent in a distribution of the Windows Subsystem for Linux.
//!
//! ```text
//!  isolazi.exe ─► wsl.exe ─► wsl-serve   one conversation, on its standard streams
//!             └─► wsl.exe ─► wsl-hold    one at most: keeps the distribution alive
//! ```
//!
//! PID 1 is the subsystem's own, which ends the distribution soon after the last
//! program that it has started for Windows, whatever else runs. Conversations
//! come and go, and containers belong to their shims, so somebody has to hold.
//! As natively there is no server between conversations: all that they share is
//! on disk and locked.

mod hold;
mod install;
mod pipes;
mod prepare;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use isolazi_protocol::one_line;
use isolazi_protocol::wsl::{HOLD_ROLE, INSTALL_ROLE, SERVE_ROLE};

use crate::guest::error::GuestError;
use crate::guest::{DATA_ROOT, DESCRIPTORS};
use crate::launch::raise_descriptors;
use crate::server::{self, Engine, EngineConfig};
use pipes::Pipes;

/// A conversation's share in it says that the distribution is in use.
const IN_USE: &str = "/run/isolazi/in-use";

/// Plays the role that the command line names, if it is one of these.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    let result = match words.next()?.as_str() {
        SERVE_ROLE => serve(),
        HOLD_ROLE => hold::run(words.next().as_deref()),
        INSTALL_ROLE => install::run(),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi: {}", one_line(&error));
            ExitCode::FAILURE
        }
    })
}

/// Serves the conversation on the standard streams.
fn serve() -> Result<(), GuestError> {
    prepare::all()?;
    let in_use = lock_file(IN_USE)?;
    let shared = in_use.lock_shared();
    shared.map_err(GuestError::setup("lock", IN_USE))?;
    let engine = Arc::new(engine()?);
    let runtime = runtime()?;
    // The library's own would keep what comes after the last end of a line.
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let stdout = File::from(stdout.map_err(GuestError::setup("use", "standard output"))?);
    runtime.block_on(async {
        let stream = Pipes::new(tokio::io::stdin(), tokio::fs::File::from_std(stdout));
        if let Err(error) = server::serve(stream, engine).await {
            eprintln!("isolazi: {}", one_line(&error));
        }
    });
    // A thread that reads standard input cannot be waited for.
    runtime.shutdown_background();
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, GuestError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GuestError::setup("start", "the agent's runtime"))
}

/// Neither clock nor power are the distribution's own: all distributions share a
/// machine, which Windows looks after.
fn engine() -> Result<Engine, GuestError> {
    let guest = server::Guest {
        token: None,
        descriptors: raise_descriptors(Some(DESCRIPTORS)),
        adopt_clock: |_| {},
        power_off: Box::new(|| {}),
        restart: Box::new(|| {}),
    };
    let engine = Engine::open(EngineConfig {
        root: DATA_ROOT.into(),
        guest: Some(guest),
    });
    engine.inspect(Engine::sweep).map_err(GuestError::Engine)
}

fn lock_file(path: &'static str) -> Result<File, GuestError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(GuestError::setup::<io::Error>("open", path))
}
