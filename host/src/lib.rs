//! The host side of isolazi: command line, images, machines.
//!
//! ```text
//!  main ─► cli ─► commands ─► engine ─► connection ─► agent
//!                   │            └► machine   makes the connection
//!                   ├► image      references, registries, the store
//!                   ├► spec       what the agent is asked for
//!                   └► session    the user's terminal, while a process runs
//! ```
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
mod commands;
pub mod config;
pub mod connection;
pub mod copy;
pub mod detach;
pub mod engine;
mod files;
pub mod go_duration;
pub mod image;
pub mod inspect;
pub mod machine;
pub mod moment;
pub mod mount;
pub mod options;
pub mod output;
pub mod paths;
pub mod ports;
pub mod processes;
pub mod resolv;
pub mod revive;
pub mod session;
pub mod spec;
mod sys;
pub mod terminal;
pub mod volume;

use std::process::ExitCode;

use clap::FromArgMatches;

/// Runs the command line of this process; returns its exit status.
pub fn main() -> ExitCode {
    if let Some(status) = run_as_helper() {
        return status;
    }
    restore_terminal_at_panic();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let runtime = match commands::runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            output::failure(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (failure, result) = runtime.block_on(commands::dispatch(cli));
    let status = result.unwrap_or_else(|error| {
        let status = commands::status_of(&error).unwrap_or(failure);
        output::failure(&format!("{error:#}"));
        status
    });
    // A thread that reads standard input cannot be waited for.
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// A panic ends a release's process at once, whatever is still to be put back.
fn restore_terminal_at_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        report(panic);
    }));
}

/// The command line, or the exit status where there is nothing to carry out.
fn parse() -> Result<cli::Cli, ExitCode> {
    let parsed = match commands::answer() {
        Ok(true) => return Err(ExitCode::SUCCESS),
        Ok(false) => cli::command_for(std::env::args_os()).try_get_matches(),
        Err(error) => Err(error),
    };
    parsed
        .and_then(|matches| cli::Cli::from_arg_matches(&matches))
        .map_err(|error| match cli::complaint(&error) {
            Some(complaint) => {
                output::failure(&complaint);
                ExitCode::from(commands::USAGE)
            }
            // Help, which is printed to wherever it belongs.
            None => error.exit(),
        })
}

/// This program is also started, by itself, as a container's shim, for
/// containers without root, as a machine's supervisor, as its vsock, and as what confines its other programs.
fn run_as_helper() -> Option<ExitCode> {
    #[cfg(target_os = "linux")]
    if let Some(status) = isolazi_agent::shim::run_if_shim()
        .or_else(isolazi_agent::userns::run_if_rootless)
        .or_else(machine::qemu::run_if_vsock_helper)
        .or_else(machine::qemu::run_if_confined)
        .or_else(machine::qemu::run_if_namespace_probe)
    {
        return Some(status);
    }
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    if let Some(status) = machine::supervised::run_if_supervisor(machine::hypervisor) {
        return Some(status);
    }
    None
}
