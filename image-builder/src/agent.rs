//! The agent, linked statically, so that the guest needs nothing else.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Arch;
use crate::command::{self, CommandError, Log};
use crate::error::BuildError;
use crate::progress::Progress;
use crate::tools::ToolsError;

const NAME: &str = "isolazi-agent";

/// The agent's executable, as new as its sources. What is there is left to
/// cargo, which knows best what has changed.
pub(crate) fn provide(
    arch: Arch,
    workspace: &Path,
    log: &Log,
    progress: &mut Progress<'_>,
) -> Result<PathBuf, BuildError> {
    ensure_target(arch, log, progress)?;
    progress.say("building the agent …");
    let said = command::output(&mut build(arch, workspace), log)?;
    let built = executable(&said).ok_or_else(|| CommandError::Output {
        program: "cargo build".to_owned(),
        wanted: NAME,
    })?;
    Ok(built)
}

fn build(arch: Arch, workspace: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(workspace);
    command.args(["build", "--release", "--package", NAME, "--bin", NAME]);
    command.args(["--target", arch.musl_target()]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command
}

/// The cargo that runs this program, or else the one of the search path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// One line of cargo's output, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

fn executable(said: &str) -> Option<PathBuf> {
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages
        .filter(|message: &Message| message.target.as_ref().is_some_and(|it| it.name == NAME))
        .find_map(|message| message.executable)
}

fn ensure_target(arch: Arch, log: &Log, progress: &mut Progress<'_>) -> Result<(), BuildError> {
    let target = arch.musl_target();
    if has_target(target, log)? {
        return Ok(());
    }
    progress.say(&format!("installing Rust's target {target} …"));
    let mut rustup = Command::new("rustup");
    match log.run(rustup.args(["target", "add", target])) {
        Ok(()) => Ok(()),
        Err(CommandError::Start { .. }) => Err(ToolsError::Missing {
            what: format!("Rust's target {target}"),
            how: "install it as your Rust distribution says, or use rustup".to_owned(),
        }
        .into()),
        Err(other) => Err(other.into()),
    }
}

fn has_target(target: &str, log: &Log) -> Result<bool, CommandError> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let folder = command::output(rustc.stdin(Stdio::null()), log)?;
    Ok(Path::new(folder.trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"isolazi_agent","kind":["lib"]},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"isolazi-agent","kind":["bin"]},"executable":"/t/isolazi-agent"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(said), Some(PathBuf::from("/t/isolazi-agent")));
        assert_eq!(executable("{}"), None);
    }
}
