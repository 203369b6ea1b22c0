//! The verbs, one a file. Each takes its parsed arguments and the [`Context`],
//! and returns the exit status.

mod archive;
mod containers;
mod df;
mod engines;
mod exec;
mod history;
mod image;
mod images;
mod inspect;
mod login;
mod logs;
mod prune;
mod ps;
mod pull;
mod push;
mod rmi;
mod run;
mod setup;
mod tag;
mod version;
mod vm;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use isolazi_protocol::{ErrorCode, Isolation};

use crate::cli::{Cli, Command, GlobalArgs, ImageCommand, SystemCommand};
use crate::config::Config;
use crate::connection::ConversationError;
use crate::engine::{Engine, EngineError};
use crate::image::{ImageStore, NetworkOptions};
use crate::machine;
use crate::paths::Paths;

/// Exit status of a command that failed before its container ran.
const ENGINE_FAILURE: u8 = 125;
const FAILURE: u8 = 1;

/// What every command needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    paths: Paths,
    vm: bool,
    insecure_registries: Vec<String>,
}

impl Context {
    fn new(global: &GlobalArgs) -> Result<Self> {
        Ok(Self {
            paths: Paths::new(data_root(global.root.clone())?),
            vm: global.vm,
            insecure_registries: global.insecure_registry.clone(),
        })
    }

    /// The engine that the user chose. Dialing it starts its machine.
    fn engine(&self) -> Result<Engine> {
        let machine: Arc<dyn machine::Machine> = match self.vm {
            true => Arc::new(machine::qemu::Qemu::new(&self.paths)?),
            false => native(&self.paths)?,
        };
        Ok(Engine::new(machine))
    }

    /// This host's own, whatever the user chose.
    fn native_engine(&self) -> Result<Engine> {
        Ok(Engine::new(native(&self.paths)?))
    }

    fn isolation(&self) -> Isolation {
        match self.vm {
            true => Isolation::Vm,
            false => Isolation::Process,
        }
    }

    /// How registries are talked to, by the user's settings.
    fn network(&self) -> Result<NetworkOptions> {
        let config = Config::read(&self.paths.config())?;
        Ok(config.network(&self.insecure_registries)?)
    }

    fn images(&self) -> Result<ImageStore> {
        Ok(ImageStore::open(self.paths.images())?)
    }
}

#[cfg(target_os = "linux")]
fn native(paths: &Paths) -> Result<Arc<dyn machine::Machine>> {
    Ok(Arc::new(machine::native::Native::open(paths.root())?))
}

#[cfg(not(target_os = "linux"))]
fn native(_paths: &Paths) -> Result<Arc<dyn machine::Machine>> {
    Err(anyhow!(
        "only Linux can run containers on its own kernel; use --vm"
    ))
}

fn data_root(given: Option<PathBuf>) -> Result<PathBuf> {
    let root = given
        .or_else(Paths::default_root)
        .ok_or_else(|| anyhow!("no home folder to keep data in; name one with --root DIR"))?;
    std::path::absolute(&root).with_context(|| format!("cannot use data root {}", root.display()))
}

/// Carries a command out and returns the exit status.
pub(crate) async fn dispatch(cli: Cli) -> (u8, Result<u8>) {
    let failure = match cli.command {
        Command::Run(_) | Command::Exec(_) => ENGINE_FAILURE,
        _ => FAILURE,
    };
    let result = match Context::new(&cli.global) {
        Ok(context) => carry_out(context, cli.command).await,
        Err(error) => Err(error),
    };
    (failure, result)
}

async fn carry_out(context: Context, command: Command) -> Result<u8> {
    if context.vm && wants_machine(&command) {
        setup::ensure_appliance(&context.paths).await?;
    }
    match command {
        Command::Run(args) => return run::run(&context, &args).await,
        Command::Exec(args) => return exec::exec(&context, &args).await,
        Command::Ps(args) => ps::ps(&context, &args).await?,
        Command::Logs(args) => return logs::logs(&context, &args).await,
        Command::Stop(args) => return containers::stop(&context, &args).await,
        Command::Rm(args) => return containers::rm(&context, &args).await,
        Command::Inspect(args) => return inspect::inspect(&context, &args).await,
        Command::Pull(args) => pull::pull(&context, &args).await?,
        Command::Images(args) => images::images(&context, &args)?,
        Command::Vm(command) => vm::vm(&context, command).await?,
        Command::Version => version::version(),
        Command::Rmi(args) => return rmi::rmi(&context, &args).await,
        Command::Tag(args) => tag::tag(&context, &args)?,
        Command::History(args) => history::history(&context, &args)?,
        Command::Image(command) => return image::image(context, command).await,
        Command::Save(args) => archive::save(&context, &args)?,
        Command::Load(args) => archive::load(&context, &args)?,
        Command::Import(args) => archive::import(&context, &args)?,
        Command::Push(args) => push::push(&context, &args).await?,
        Command::Login(args) => login::login(&context, &args).await?,
        Command::Logout(args) => login::logout(&args).await?,
        Command::Prune(args) => return prune::prune(&context, args).await,
        Command::System(SystemCommand::Df) => df::df(&context).await?,
        Command::System(SystemCommand::Prune(args)) => return prune::system(&context, args).await,
    }
    Ok(0)
}

/// Whether the command is the first that a fresh machine may be asked for.
fn wants_machine(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(_) | Command::Pull(_) | Command::Image(ImageCommand::Pull(_))
    )
}

/// A runtime that suits the command: pulling keeps several processors busy,
/// everything else is one conversation.
pub(crate) fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Pull(_) | Command::Run(_) | Command::Push(_) | Command::Image(_) => {
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

/// The exit status that an error stands for, where it says so: a command that
/// cannot be executed is 126, one that is not there 127, as in a shell.
pub(crate) fn status_of(error: &anyhow::Error) -> Option<u8> {
    let refusal = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(ConversationError::Refused(refusal)), _) => refusal,
        (_, Some(EngineError::Conversation(ConversationError::Refused(refusal)))) => refusal,
        _ => return None,
    };
    match refusal.code {
        ErrorCode::NotExecutable => Some(126),
        ErrorCode::CommandNotFound => Some(127),
        _ => None,
    }
}
