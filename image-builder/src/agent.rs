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
const HOST: &str = "isolazi";

/// The agent's executable, as new as its sources. What is there is left to
/// cargo, which knows best what has changed.
pub(crate) fn provide(
    arch: Arch,
    cross: bool,
    workspace: &Path,
    log: &Log,
    progress: &mut Progress<'_>,
) -> Result<PathBuf, BuildError> {
    ensure_target(arch, log, progress)?;
    progress.say("building the agent …");
    Ok(run(&mut build(arch, cross, workspace), NAME, log)?)
}

/// This machine's `isolazi`, as new as its sources.
pub(crate) fn program(
    workspace: &Path,
    log: &Log,
    progress: &mut Progress<'_>,
) -> Result<PathBuf, BuildError> {
    progress.say("building isolazi …");
    let mut command = cargo();
    command.current_dir(workspace);
    command.args(["build", "--release", "--package", HOST, "--bin", HOST]);
    command.args(["--message-format", "json-render-diagnostics"]);
    Ok(run(&mut command, HOST, log)?)
}

/// Runs cargo, which says where the executable `name` is.
fn run(cargo: &mut Command, name: &'static str, log: &Log) -> Result<PathBuf, CommandError> {
    let said = command::output(cargo, log)?;
    executable(&said, name).ok_or_else(|| CommandError::Output {
        program: "cargo build".to_owned(),
        wanted: name,
    })
}

fn build(arch: Arch, cross: bool, workspace: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(workspace);
    command.args(["build", "--release", "--package", NAME, "--bin", NAME]);
    command.args(["--target", arch.musl_target()]);
    // Where a processor is emulated, boot is as long as the code that is met for the first
    // time; what handles bytes is fast either way.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s");
    // A panic in one conversation must not end the others.
    command.env("CARGO_PROFILE_RELEASE_PANIC", "unwind");
    if cross {
        // It only links: Rust brings its own libc for this target.
        command.env(linker_variable(arch), arch.cross_compiler());
    }
    command.args(["--message-format", "json-render-diagnostics"]);
    command
}

/// By which cargo is told the linker of a target.
fn linker_variable(arch: Arch) -> String {
    let target = arch.musl_target().replace('-', "_").to_uppercase();
    format!("CARGO_TARGET_{target}_LINKER")
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

fn executable(said: &str, name: &str) -> Option<PathBuf> {
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages
        .filter(|message: &Message| message.target.as_ref().is_some_and(|it| it.name == name))
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
        assert_eq!(
            executable(said, NAME),
            Some(PathBuf::from("/t/isolazi-agent"))
        );
        assert_eq!(executable(said, HOST), None);
        assert_eq!(executable("{}", NAME), None);
    }
}
