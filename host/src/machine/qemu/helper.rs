//! Programs that belong to the machine: they end with its supervisor, unless
//! that one is killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::machine::MachineError;

/// How long a helper may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the kernel kill the program when the supervisor ends, however it ends.
pub(super) fn die_with_us(command: &mut Command) {
    crate::sys::kill_with_parent(command);
    command.kill_on_drop(true);
}

/// Starts a helper and waits until it listens at `socket`.
pub(super) async fn start(mut command: Command, socket: &Path) -> Result<Child, MachineError> {
    let program = PathBuf::from(command.as_std().get_program());
    let _ = std::fs::remove_file(socket);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(MachineError::io("start", &program))?;
    let deadline = Instant::now() + PATIENCE;
    while !listens(socket) {
        let ended = child
            .try_wait()
            .map_err(MachineError::io("watch", &program))?;
        if ended.is_some() || Instant::now() > deadline {
            return Err(MachineError::Failed(format!(
                "{} did not start; see the machine's supervisor.log",
                program.display()
            )));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(child)
}

/// Whether somebody listens at `socket`: its file is there a moment earlier, and
/// whoever connects then is refused. (To connect would take the place of the one
/// that the helper waits for.)
fn listens(socket: &Path) -> bool {
    /// `__SO_ACCEPTCON`, in the field of flags (proc_pid_net(5)).
    const ACCEPTS: &str = "00010000";
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some(ACCEPTS)
            && line
                .split_once('/')
                .is_some_and(|(_, path)| socket.strip_prefix("/") == Ok(Path::new(path)))
    })
}
