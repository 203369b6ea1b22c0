//! The verbs, one a file. Each takes its parsed arguments and the [`Context`],
//! and returns the exit status.

mod archive;
mod commit;
mod completion;
mod confirm;
mod containers;
mod cp;
mod df;
mod diff;
mod doctor;
mod engines;
mod events;
mod exec;
mod export;
mod filter;
mod happened;
mod history;
mod image;
mod images;
mod inspect;
mod login;
mod logs;
mod man;
mod networks;
mod places;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod read;
mod rmi;
mod run;
mod seccomp;
mod setup;
mod several;
mod start;
mod stats;
mod tag;
mod top;
mod version;
mod vm;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};
use isolazi_protocol::{ErrorCode, Isolation};

use crate::cli::{Cli, Command, GlobalArgs, ImageCommand, SystemCommand};
use crate::config::Config;
use crate::connection::ConversationError;
use crate::engine::{Engine, EngineError};
use crate::image::{ImageStore, NetworkOptions};
use crate::machine::{self, Backend, VirtualMachine};
use crate::paths::Paths;
#[cfg(target_os = "linux")]
use crate::{output, revive};

pub(crate) use completion::answer;

/// Exit status of a command that failed before its container ran.
const ENGINE_FAILURE: u8 = 125;
const FAILURE: u8 = 1;
/// Exit status where the command line makes no sense.
pub(crate) const USAGE: u8 = 2;

/// What every command needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    paths: Paths,
    /// Where the user says that containers are to run or to be looked for.
    place: Option<Isolation>,
    insecure_registries: Vec<String>,
    config: Arc<Config>,
}

impl Context {
    fn new(global: &GlobalArgs) -> Result<Self> {
        let paths = Paths::new(data_root(global.root.clone())?);
        Ok(Self {
            config: Arc::new(Config::read(&paths.config())?),
            paths,
            place: global.vm.then_some(Isolation::Vm),
            insecure_registries: global.insecure_registry.clone(),
        })
    }

    /// The engine that new containers run on. Dialing it starts its machine.
    fn engine(&self) -> Result<Engine> {
        self.engine_in(self.isolation())
    }

    /// The engine of a place.
    fn engine_in(&self, place: Isolation) -> Result<Engine> {
        let machine: Arc<dyn machine::Machine> = match place {
            Isolation::Vm => self.virtual_machine()?,
            Isolation::Process => native(&self.paths)?,
        };
        Ok(Engine::new(machine).with_bounds(self.config.layers.bounds()))
    }

    /// What runs the virtual machine.
    fn backend(&self) -> Result<Backend> {
        Ok(Backend::choose(self.config.machine.backend)?)
    }

    /// The virtual machine. Starts nothing.
    fn virtual_machine(&self) -> Result<Arc<dyn VirtualMachine>> {
        Ok(machine::open(self.backend()?, &self.paths)?)
    }

    /// Where new containers run.
    fn isolation(&self) -> Isolation {
        self.place.unwrap_or(self.default_place())
    }

    fn default_place(&self) -> Isolation {
        let fallback = match is_possible(Isolation::Process) {
            true => Isolation::Process,
            false => Isolation::Vm,
        };
        self.config.isolation.unwrap_or(fallback)
    }

    /// Whether this host itself has ever had containers. Where it has not, an ordinary
    /// user's engine need not make a user namespace to say so, or fail to.
    fn may_have_containers_here(&self) -> bool {
        is_possible(Isolation::Process) && self.paths.root().join("containers").is_dir()
    }

    /// The same, in another place.
    fn in_place(self, place: Option<Isolation>) -> Self {
        Self {
            place: place.or(self.place),
            ..self
        }
    }

    /// How registries are talked to, by the user's settings.
    fn network(&self) -> Result<NetworkOptions> {
        Ok(Config::clone(&self.config).network(&self.insecure_registries)?)
    }

    fn images(&self) -> Result<ImageStore> {
        Ok(ImageStore::open(self.paths.images())?)
    }
}

/// Whether this host can have containers there at all.
fn is_possible(place: Isolation) -> bool {
    place == Isolation::Vm || cfg!(target_os = "linux")
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
        Err(error) => match &cli.command {
            Command::Doctor(args) => doctor::without_context(&error, args),
            _ => Err(error),
        },
    };
    (failure, result)
}

async fn carry_out(context: Context, command: Command) -> Result<u8> {
    let context = match &command {
        Command::Run(args) | Command::Create(args) => context.in_place(args.life.isolation),
        _ => context,
    };
    if context.isolation() == Isolation::Vm && wants_machine(&command) {
        setup::ensure_machine(&context).await?;
    }
    #[cfg(target_os = "linux")]
    revive_after_boot(&context).await?;
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
        Command::Create(args) => return run::create(&context, &args).await,
        Command::Start(args) => return start::start(&context, &args).await,
        Command::Restart(args) => return start::restart(&context, &args).await,
        Command::Kill(args) => return containers::kill(&context, &args).await,
        Command::Wait(args) => return containers::wait(&context, &args).await,
        Command::Pause(args) => return containers::pause(&context, &args).await,
        Command::Unpause(args) => return containers::unpause(&context, &args).await,
        Command::Rename(args) => return containers::rename(&context, &args).await,
        Command::Attach(args) => return start::attach(&context, &args).await,
        Command::Update(args) => return containers::update(&context, &args).await,
        Command::Vm(command) => vm::vm(&context, &command).await?,
        Command::Doctor(args) => return doctor::doctor(&context, &args).await,
        Command::Version(args) => version::version(&context, &args).await?,
        Command::Completion(args) => completion::completion(&args)?,
        Command::Man(args) => man::man(&args)?,
        Command::Network(command) => return networks::network(&context, &command).await,
        Command::Volume(command) => return volumes::volume(&context, &command).await,
        Command::Cp(args) => return cp::cp(&context, &args).await,
        Command::Diff(args) => diff::diff(&context, &args).await?,
        Command::Export(args) => return export::export(&context, &args).await,
        Command::Top(args) => top::top(&context, &args).await?,
        Command::Port(args) => port::port(&context, &args).await?,
        Command::Stats(args) => stats::stats(&context, &args).await?,
        Command::Commit(args) => commit::commit(&context, &args).await?,
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
        Command::Events(args) => events::events(&context, &args).await?,
        Command::Seccomp(command) => seccomp::seccomp(&context, &command).await?,
    }
    Ok(0)
}

/// The first command since this host has booted starts what is to come back.
#[cfg(target_os = "linux")]
async fn revive_after_boot(context: &Context) -> Result<()> {
    let now = SystemTime::now();
    let may_be_asked = context.place != Some(Isolation::Vm) && context.may_have_containers_here();
    if !may_be_asked || !revive::is_first_since_boot(context.paths.root()) {
        return Ok(());
    }
    let engine = context.engine_in(Isolation::Process)?;
    for failure in revive::revive(&engine, now).await? {
        output::warning(&failure);
    }
    Ok(())
}

/// Whether the command is the first that a fresh machine may be asked for.
fn wants_machine(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(_)
            | Command::Create(_)
            | Command::Pull(_)
            | Command::Image(ImageCommand::Pull(_))
    )
}

/// A runtime that suits the command: pulling keeps several processors busy,
/// everything else is one conversation.
pub(crate) fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Pull(_)
        | Command::Run(_)
        | Command::Create(_)
        | Command::Push(_)
        | Command::Image(_) => tokio::runtime::Builder::new_multi_thread(),
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
