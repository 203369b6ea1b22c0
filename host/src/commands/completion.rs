//! `isolazi completion`, and what the shell asks for afterwards.
//!
//! The script that is printed makes the shell call this program with [`ASKED`]
//! in the environment and the words so far as arguments. Names of containers
//! and images are looked up at once, without starting a machine and within
//! [`PATIENCE`]; where that fails there are none.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{ArgValueCandidates, CompleteEnv, CompletionCandidate};
use isolazi_protocol::ContainerSummary;

use crate::cli::{self, CompletionArgs, GlobalArgs, Shell};
use crate::commands::Context;
use crate::output;

/// Names the shell that asks.
const ASKED: &str = "ISOLAZI_COMPLETE";
const PROGRAM: &str = "isolazi";
/// The longest that a shell waits for names.
const PATIENCE: Duration = Duration::from_secs(1);
/// Verbs that make sense for running containers only.
const OF_RUNNING: [&str; 7] = ["exec", "stop", "kill", "pause", "top", "attach", "port"];

pub(super) fn completion(args: &CompletionArgs) -> Result<()> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(ASKED, PROGRAM, PROGRAM, &completer()?, &mut script)?;
    output::result(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

/// This program as it was called: by its name, or where it lies.
fn completer() -> Result<String> {
    let called = PathBuf::from(env::args_os().next().unwrap_or_else(|| PROGRAM.into()));
    let called = match called.components().count() {
        0 | 1 => called,
        _ => std::path::absolute(&called).context("cannot tell where isolazi lies")?,
    };
    Ok(called.to_string_lossy().into_owned())
}

/// Answers the shell, if it is the shell that asks. Says whether it was.
pub(crate) fn answer() -> Result<bool, clap::Error> {
    if env::var_os(ASKED).is_none() {
        return Ok(false);
    }
    let complete = CompleteEnv::with_factory(with_names)
        .var(ASKED)
        .bin(PROGRAM);
    complete.try_complete(env::args_os(), env::current_dir().ok().as_deref())
}

/// The command line, with names where it takes containers or images.
fn with_names() -> clap::Command {
    name_arguments(cli::command())
}

fn name_arguments(command: clap::Command) -> clap::Command {
    let running = OF_RUNNING.contains(&command.get_name());
    command
        .mut_args(|argument| match argument.get_id().as_str() {
            "container" | "containers" => {
                argument.add(ArgValueCandidates::new(move || containers(running)))
            }
            "image" | "images" => argument.add(ArgValueCandidates::new(images)),
            _ => argument,
        })
        .mut_subcommands(name_arguments)
}

fn containers(running: bool) -> Vec<CompletionCandidate> {
    let found = context().and_then(|context| list_containers(&context, !running));
    let candidates = found.unwrap_or_default().into_iter().map(|container| {
        let what = output::printable(&container.image);
        CompletionCandidate::new(container.name).help(Some(what.into()))
    });
    candidates.collect()
}

fn list_containers(context: &Context, all: bool) -> Option<Vec<ContainerSummary>> {
    // Nothing is made here that is not there.
    let places = [
        context.paths.machine(),
        context.paths.root().join("containers"),
    ];
    if !places.iter().any(|place| place.is_dir()) {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let asking = async {
        let residents = context.residents(all, false).await.ok()?;
        Some(residents.into_iter().map(|it| it.container).collect())
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await.ok()? })
}

fn images() -> Vec<CompletionCandidate> {
    let found = context()
        .filter(|context| context.paths.images().is_dir())
        .and_then(|context| context.images().ok()?.list().ok());
    let names = found.into_iter().flat_map(|it| it.images).map(|image| {
        let name = image.reference.familiar_name();
        match image.reference.tag() {
            Some(tag) => format!("{name}:{tag}"),
            None => image.reference.canonical(),
        }
    });
    let names: BTreeSet<String> = names.collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// What the words so far, and the environment, say of the mode and the place.
fn context() -> Option<Context> {
    let words = env::args_os().map(|it| it.to_string_lossy().into_owned());
    let words: Vec<String> = words.skip_while(|word| word != "--").skip(1).collect();
    let root = words
        .iter()
        .enumerate()
        .find_map(|(at, word)| match word.as_str() {
            "--root" => words.get(at + 1).cloned(),
            word => word.strip_prefix("--root=").map(str::to_owned),
        });
    let falsey = ["", "0", "n", "no", "f", "false", "off"];
    let by_environment = env::var("ISOLAZI_VM")
        .is_ok_and(|value| !falsey.contains(&value.to_ascii_lowercase().as_str()));
    let global = GlobalArgs {
        vm: by_environment || words.iter().any(|word| word == "--vm"),
        root: root
            .map(PathBuf::from)
            .or_else(|| env::var_os("ISOLAZI_HOME").map(PathBuf::from)),
        insecure_registry: Vec::new(),
    };
    Context::new(&global).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_where_a_verb_takes_names() {
        let command = with_names();
        for (verb, argument) in [
            ("stop", "containers"),
            ("logs", "container"),
            ("run", "image"),
        ] {
            let verb = command.find_subcommand(verb).unwrap();
            let found = verb.get_arguments().find(|it| it.get_id() == argument);
            assert!(
                found.unwrap().get::<ArgValueCandidates>().is_some(),
                "{argument}"
            );
        }
    }
}
