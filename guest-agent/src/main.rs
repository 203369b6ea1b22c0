//! `isolazi-agent`: PID 1 of the guest, and its server process.

use std::process::ExitCode;

use isolazi_agent::{guest, shim, wsl};

fn main() -> ExitCode {
    if let Some(status) = shim::run_if_shim() {
        return status;
    }
    let role = std::env::args_os().nth(1);
    if role
        .as_ref()
        .is_some_and(|role| role == guest::service::ROLE)
    {
        return guest::service::run(std::env::args_os().skip(2));
    }
    if role.is_some_and(|role| role == guest::SERVER_ROLE) {
        return guest::run_server();
    }
    if let Some(status) = wsl::run_if_asked() {
        return status;
    }
    if std::process::id() == 1 {
        return guest::run_init();
    }
    eprintln!("isolazi-agent: started by the kernel of an isolazi guest, not by hand");
    ExitCode::from(2)
}
