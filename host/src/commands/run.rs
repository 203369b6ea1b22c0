//! `isolazi run`.
//!
//! ```text
//!  image: in the store? else embedded? else pull ─┐
//!  volumes: shared with the machine ──────────────┼─► spec ─► Run ─► attach
//!  terminal, resolv.conf ─────────────────────────┘             │
//!             layers missing there: push them, once more ◄──────┘
//! ```

use std::fs::File;
use std::time::Duration;

use anyhow::{Result, bail};
use isolazi_protocol::{
    BindMount, BindRecursion, ContainerId, ContainerOptions, ContainerSpec, ErrorCode, Event,
    Isolation, Request,
};

use crate::cli::{ProcessArgs, RunArgs, TerminalArgs};
use crate::commands::{Context, pull};
use crate::connection::{Conversation, Incoming};
use crate::detach::DetachKeys;
use crate::engine::{Engine, EngineError};
use crate::image::Image;
use crate::machine::{Publication, Word};
use crate::options::{self, CidFile};
use crate::session::{self, Attach, Ended};
use crate::spec::{self, Surroundings};
use crate::volume::{Mount, Volume};
use crate::{mount, output, resolv, terminal};

/// Containers that end sooner need not be found by other commands.
const A_WHILE: Duration = Duration::from_millis(200);

pub(super) async fn run(context: &Context, args: &RunArgs) -> Result<u8> {
    let args = &settle_terminal(args)?;
    let engine = context.engine()?;
    let cidfile = reserve_cidfile(args)?;
    let (image, mut spec) = prepare(context, &engine, args).await?;
    let publication = publish(&engine, &mut spec).await?;
    let request = Request::Run {
        spec: Box::new(spec),
        attach: !args.detach,
    };
    let names = reserve(context, &engine, args).await?;
    let mut conversation = start(context, &engine, &image, &request).await?;
    let id = created(&mut conversation, cidfile).await?;
    publication.belongs_to(&id).await?;
    drop(names);
    await_start(&mut conversation).await?;
    if args.detach {
        conversation.reply().await?;
        context.refresh(&engine).await?;
        output::result(id.as_str());
        return Ok(0);
    }
    let how = Attach {
        stdin: args.process.interactive,
        tty: args.process.tty,
        detach: detach_keys(&args.life.terminal),
    };
    // Here every command looks for itself.
    let known = (engine.isolation() == Isolation::Vm)
        .then(|| tokio::spawn(make_known(context.clone(), engine.clone())));
    let ended = session::attach(conversation, &how).await?;
    if !args.rm || known.is_some_and(|known| known.is_finished()) {
        // What is wrong in the list of a machine is found out later.
        let _ = context.refresh(&engine).await;
    }
    Ok(exit_status(ended))
}

/// `isolazi create`.
pub(super) async fn create(context: &Context, args: &RunArgs) -> Result<u8> {
    if args.detach {
        bail!("create starts nothing that could be in the background; leave -d out");
    }
    let engine = context.engine()?;
    let cidfile = reserve_cidfile(args)?;
    let (image, mut spec) = prepare(context, &engine, args).await?;
    // Free ones are chosen now; whether they still are is found out at the start.
    drop(publish(&engine, &mut spec).await?);
    let request = Request::Create {
        spec: Box::new(spec),
    };
    let _names = reserve(context, &engine, args).await?;
    let mut conversation = start(context, &engine, &image, &request).await?;
    let id = created(&mut conversation, cidfile).await?;
    conversation.reply().await?;
    context.refresh(&engine).await?;
    output::result(id.as_str());
    Ok(0)
}

/// Sees to it that a name is not given away elsewhere while the container gets it.
async fn reserve(context: &Context, engine: &Engine, args: &RunArgs) -> Result<Option<File>> {
    let Some(name) = &args.name else {
        return Ok(None);
    };
    let lock = context.lock_names()?;
    context.ensure_free(name, engine.isolation()).await?;
    Ok(Some(lock))
}

/// Lets other commands know of a container in the machine, if it stays a while.
async fn make_known(context: Context, engine: Engine) -> Result<()> {
    tokio::time::sleep(A_WHILE).await;
    context.refresh(&engine).await
}

/// The image, and what the container is to be.
async fn prepare(
    context: &Context,
    engine: &Engine,
    args: &RunArgs,
) -> Result<(Image, ContainerSpec)> {
    let mut options = options::resolve(&args.settings)?;
    let limits = options::limits(&args.settings.limits)?;
    let limits = options::fixed_limits(&args.settings.fixed_limits, limits)?;
    let (seccomp, security) = options::security(&args.settings.security)?;
    options.security = security;
    let network = options::network(&args.network)?;
    let binds = mounts(args, &mut options)?;
    let env_files = options::environment_files(&args.process.env_file)?;
    let platform = args.platform.as_deref();
    let image = pull::obtain(context, engine, &args.image, platform, args.settings.pull).await?;
    if platform.is_none() {
        pull::warn_of_foreign(engine, &image);
    }
    let outside = engine.machine().outside();
    options.network = options::network_options(&args.network, &image.config.exposed_ports)?;
    options.network.host = outside.host;
    options.health = options::health(&args.settings.health, &image.config)?;
    let surroundings = Surroundings {
        terminal: args
            .process
            .tty
            .then(|| terminal::size().unwrap_or_default()),
        open_stdin: args.process.interactive,
        mounts: share(engine, &binds).await?,
        resolv_conf: options::resolv_conf(&resolv::for_containers(outside.resolver), &options.dns),
        network,
        options,
        env_files,
        limits,
        seccomp,
    };
    let spec = spec::container(&image, args, surroundings);
    Ok((image, spec))
}

/// Takes the host's ports where the engine cannot.
async fn publish(engine: &Engine, spec: &mut ContainerSpec) -> Result<Publication> {
    let network = &mut spec.options.network;
    let mut publication = engine.machine().publish(&network.ports, Word::User).await?;
    network.ports = std::mem::take(&mut publication.ports);
    network.relayed = publication.relayed;
    Ok(publication)
}

fn reserve_cidfile(args: &RunArgs) -> Result<Option<CidFile>> {
    let path = args.settings.cidfile.as_deref();
    Ok(path.map(CidFile::reserve).transpose()?)
}

/// The new container's id, which also goes to the file that was asked for.
async fn created(conversation: &mut Conversation, file: Option<CidFile>) -> Result<ContainerId> {
    let Incoming::Event(Event::Created(id)) = conversation.next().await? else {
        bail!("the agent did not say which container it made");
    };
    if let Some(file) = file {
        file.write(&id)?;
    }
    Ok(id)
}

/// The keys that leave a terminal.
pub(super) fn detach_keys(args: &TerminalArgs) -> DetachKeys {
    args.detach_keys.clone().unwrap_or_default()
}

/// All that is to be mounted: what is not the host's becomes part of the options.
fn mounts(args: &RunArgs, options: &mut ContainerOptions) -> Result<Vec<Volume>> {
    let mut binds = Vec::new();
    let short = args.volume.iter().map(|text| Ok(Mount::parse(text)?));
    let long = args
        .settings
        .mount
        .iter()
        .map(|text| Ok(mount::mount(text)?));
    let tmpfs = args.settings.tmpfs.iter();
    let tmpfs = tmpfs.map(|text| Ok(Mount::Tmpfs(mount::tmpfs(text))));
    for asked in short.chain(long).chain(tmpfs) {
        let asked: Result<Mount> = asked;
        match asked? {
            Mount::Bind(bind) => binds.push(bind),
            Mount::Volume(volume) => options.volumes.push(volume),
            Mount::Tmpfs(tmpfs) => options.tmpfs.push(tmpfs),
        }
    }
    Ok(binds)
}

/// In front of a terminal a container is interactive without being told, so
/// that `isolazi run alpine /bin/sh` is a shell. Options always win.
fn settle_terminal(args: &RunArgs) -> Result<RunArgs> {
    let mut settled = args.clone();
    let unsaid = !args.process.interactive && !args.process.tty;
    if args.detach {
        settled.process.interactive = false;
    } else if unsaid && terminal::is_interactive() {
        settled.process.interactive = true;
        settled.process.tty = true;
    } else {
        require_terminal(&args.process)?;
    }
    Ok(settled)
}

/// A terminal for the process needs one on this side to type into.
pub(super) fn require_terminal(args: &ProcessArgs) -> Result<()> {
    use std::io::IsTerminal;
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        bail!("standard input is not a terminal; leave -t out to pass it on as it is");
    }
    Ok(())
}

async fn share(engine: &Engine, volumes: &[Volume]) -> Result<Vec<BindMount>> {
    let mut mounts = Vec::new();
    for volume in volumes {
        // A folder that is read-only to the machine is another one there, which
        // shares nothing with that of other containers.
        let alone = volume.propagation.is_private() && volume.recursion != BindRecursion::Writable;
        let read_only = volume.read_only && alone;
        mounts.push(BindMount {
            source: engine
                .machine()
                .share(&volume.source, read_only, Word::User)
                .await?,
            host_path: volume.source.display().to_string(),
            target: volume.target.clone(),
            read_only: volume.read_only,
            propagation: volume.propagation,
            recursion: volume.recursion,
        });
    }
    Ok(mounts)
}

/// Makes the request; when the agent lacks layers, pushes them and makes it again.
async fn start(
    context: &Context,
    engine: &Engine,
    image: &Image,
    request: &Request,
) -> Result<Conversation> {
    match first_answer(engine, request).await {
        Err(error) if is_missing_layers(&error) => {
            pull::push(context, engine, image).await?;
            Ok(first_answer(engine, request).await?)
        }
        other => Ok(other?),
    }
}

/// A conversation whose first answer is not a refusal.
async fn first_answer(engine: &Engine, request: &Request) -> Result<Conversation, EngineError> {
    let mut conversation = engine.open(request).await?;
    conversation.await_answer().await?;
    Ok(conversation)
}

fn is_missing_layers(error: &EngineError) -> bool {
    error
        .refusal()
        .is_some_and(|refusal| refusal.code == ErrorCode::LayersMissing)
}

/// Waits until the process runs.
pub(super) async fn await_start(conversation: &mut Conversation) -> Result<()> {
    loop {
        match conversation.next().await? {
            Incoming::Event(Event::Started) => return Ok(()),
            Incoming::Event(Event::Warning(text)) => output::warning(&text),
            _ => bail!("the agent did not say that the process started"),
        }
    }
}

/// A process's status as ours; a process that was left running is fine.
pub(super) fn exit_status(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Detached => 0,
        // As of whoever does not handle the signal SIGHUP.
        Ended::HungUp => 129,
    }
}
