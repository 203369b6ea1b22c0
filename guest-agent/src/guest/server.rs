//! The agent's server process: the host's conversations over AF_VSOCK.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use isolazi_protocol::AGENT_VSOCK_PORT;

use super::config::BootConfig;
use super::error::{GuestError, one_line};
use super::interim::converse;
use super::stream::Listener;

/// What the console shows as soon as the host may connect: a hypervisor may
/// drop connections made earlier, or leave them hanging.
const READY_LINE: &str = "isolazi: ready";

/// Serves until this process is killed. PID 1 writes the boot config to its
/// standard input.
pub fn run() -> ExitCode {
    let result = BootConfig::from_reader(io::stdin()).and_then(|config| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(GuestError::setup("start", "the agent's runtime"))?
            .block_on(serve(config))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: BootConfig) -> Result<(), GuestError> {
    let listener =
        Listener::bind(AGENT_VSOCK_PORT).map_err(GuestError::setup("listen on", "AF_VSOCK"))?;
    eprintln!("{READY_LINE}");
    loop {
        match listener.accept().await {
            Ok(stream) => {
                tokio::spawn(converse(stream, config.token.clone()));
            }
            Err(error) => {
                // Out of descriptors or memory: ending would not help.
                eprintln!("isolazi: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
