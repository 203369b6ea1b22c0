//! The agent as a service of somebody else's distribution, such as that of a Lima guest:
//! the system is up, and there is another PID 1. The host's connections come through a
//! socket that whoever forwards it may connect to, and show a token.
//!
//! `isolazi-agent service SOCKET TOKEN-FILE UID`

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::ExitCode;

use isolazi_protocol::{Token, one_line};
use tokio::net::UnixListener;

use super::DATA_ROOT;
use super::error::GuestError;
use super::server::{engine, serve_all};

/// The argument that makes the executable a service.
pub const ROLE: &str = "service";
const USAGE: &str = "isolazi-agent service SOCKET TOKEN-FILE UID";

/// Serves until this process is killed. `arguments` are those behind the role.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = arguments.collect();
    let [socket, token, user] = words.as_slice() else {
        eprintln!("isolazi: usage: {USAGE}");
        return ExitCode::from(2);
    };
    let Some(user) = user.to_str().and_then(|text| text.parse().ok()) else {
        eprintln!("isolazi: '{}' is no user's number: {USAGE}", user.display());
        return ExitCode::from(2);
    };
    match serve(Path::new(socket), Path::new(token), user) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolazi: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &Path, token: &Path, user: u32) -> Result<(), GuestError> {
    let name = |path: &Path| path.display().to_string();
    let text = fs::read_to_string(token).map_err(GuestError::setup("read", name(token)))?;
    let token = Token::from_hex(text.trim()).ok_or_else(|| {
        let reason = io::Error::other("it is not 64 hexadecimal digits");
        GuestError::setup("use", name(token))(reason)
    })?;
    fs::create_dir_all(DATA_ROOT).map_err(GuestError::setup("create", DATA_ROOT))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GuestError::setup("start", "the agent's runtime"))?
        .block_on(async {
            let engine = engine(token, Box::new(leave_power))?;
            engine.sweep();
            let listener =
                listen(socket, user).map_err(GuestError::setup("listen at", name(socket)))?;
            serve_all(engine, async || Ok(listener.accept().await?.0)).await
        })
}

/// Nobody but root and `user`, who forwards it, can connect.
fn listen(socket: &Path, user: u32) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    chown(socket, Some(user), None)?;
    Ok(listener)
}

/// Containers have stopped by now. The power is for the host to cut, by means of the
/// program that it was turned on with.
fn leave_power() {}
