//! The agent's server process: the host's conversations over AF_VSOCK.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use isolazi_protocol::{AGENT_VSOCK_PORT, BootConfig, Token, one_line};
use nix::sys::signal::SigSet;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::GuestError;
use super::listener::Listener;
use super::{DATA_ROOT, clock, config, network, rosetta, shutdown};
use crate::launch::raise_descriptors;
use crate::server::{self, Engine, EngineConfig};

/// What the console shows as soon as the host may connect: a hypervisor may
/// drop connections made earlier, or leave them hanging.
const READY_LINE: &str = "isolazi: ready";

/// When the host has its first answer for certain, if it wants one at once.
const FIRST_ANSWER: Duration = Duration::from_millis(300);

/// Each connection to a published port takes two; as many as the kernel has by default
/// (`fs.nr_open`).
pub(crate) const DESCRIPTORS: u64 = 1 << 20;

/// Serves until this process is killed. PID 1 writes the boot config to its
/// standard input.
pub fn run() -> ExitCode {
    // PID 1 blocks the signals that it reads, and its children inherit that.
    if let Err(errno) = SigSet::all().thread_unblock() {
        eprintln!("isolazi: cannot unblock signals: {errno}");
    }
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// PID 1 says what to be once it has the disk; the runtime is made meanwhile.
fn start() -> Result<(), GuestError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GuestError::setup("start", "the agent's runtime"))?;
    runtime.block_on(serve(config::receive()?))
}

async fn serve(config: BootConfig) -> Result<(), GuestError> {
    let network = config.network;
    let engine = engine(config.token, Box::new(shutdown::request_soon))?;
    let listener =
        Listener::bind(AGENT_VSOCK_PORT).map_err(GuestError::setup("listen on", "AF_VSOCK"))?;
    eprintln!("{READY_LINE}");
    // Nobody who waits for the guest needs to wait for these, too.
    let serving = Arc::clone(&engine);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(FIRST_ANSWER, serving.has_served()).await;
        tokio::task::spawn_blocking(move || serving.sweep());
        if let Err(error) = network::bring_up(network).await {
            eprintln!("isolazi: cannot bring the network up: {error}");
        }
    });
    if let Some(tag) = config.rosetta {
        tokio::task::spawn_blocking(move || {
            if let Err(error) = rosetta::register(&tag) {
                eprintln!("isolazi: no program for amd64 runs: {}", one_line(&error));
            }
        });
    }
    serve_all(engine, || listener.accept()).await
}

/// Serves everybody who comes, for ever.
pub(super) async fn serve_all<S>(
    engine: Arc<Engine>,
    accept: impl AsyncFn() -> io::Result<S>,
) -> Result<(), GuestError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    loop {
        match accept().await {
            Ok(stream) => {
                let conversation = server::serve(stream, Arc::clone(&engine));
                tokio::spawn(async {
                    if let Err(error) = conversation.await {
                        eprintln!("isolazi: {}", one_line(&error));
                    }
                });
            }
            Err(error) => {
                // Out of descriptors or memory: ending would not help.
                eprintln!("isolazi: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The engine of a guest, which its host may have to show the token to.
pub(super) fn engine(
    token: Token,
    power_off: Box<dyn Fn() + Send + Sync>,
) -> Result<Arc<Engine>, GuestError> {
    let guest = server::Guest {
        token: Some(token),
        descriptors: raise_descriptors(Some(DESCRIPTORS)),
        adopt_clock: |nanos| {
            if let Err(errno) = clock::adopt(nanos) {
                eprintln!("isolazi: cannot set the clock: {errno}");
            }
        },
        power_off,
        restart: Box::new(shutdown::end_process_soon),
    };
    let config = EngineConfig {
        root: DATA_ROOT.into(),
        guest: Some(guest),
    };
    Engine::open(config)
        .map(Arc::new)
        .map_err(GuestError::Engine)
}
