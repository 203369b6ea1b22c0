//! `isolazi start`, `restart` and `attach`: containers that exist, and their
//! first process.

use anyhow::{Result, bail};
use isolazi_protocol::{ClientControl, ContainerDetail, Reply, Request};

use crate::cli::{AttachArgs, RestartArgs, StartArgs, TerminalArgs};
use crate::commands::Context;
use crate::commands::containers::each;
use crate::commands::run::{await_start, detach_keys, exit_status};
use crate::connection::Conversation;
use crate::engine::Engine;
use crate::machine::{Publication, Word};
use crate::revive::start_request;
use crate::session::{self, Attach};
use crate::terminal;

pub(super) async fn start(context: &Context, args: &StartArgs) -> Result<u8> {
    if !args.attach && !args.interactive {
        return each(&args.containers, |container| start_one(context, container)).await;
    }
    let [container] = args.containers.as_slice() else {
        bail!("only one container can be attached to; start the others without -a and -i");
    };
    let engine = context.engine_of(container).await?;
    let detail = describe(&engine, container).await?;
    let conversation = engine
        .open(&start_request(&engine, &detail, true).await?)
        .await?;
    follow(conversation, &detail, args.interactive, &args.terminal).await
}

pub(super) async fn restart(context: &Context, args: &RestartArgs) -> Result<u8> {
    each(&args.containers, |container| async {
        let engine = context.engine_of(&container).await?;
        let stop = Request::Stop {
            container: container.clone(),
            timeout: args.time,
        };
        engine.ask(&stop).await?;
        start_in(&engine, container, true).await
    })
    .await
}

pub(super) async fn attach(context: &Context, args: &AttachArgs) -> Result<u8> {
    let engine = context.engine_of(&args.container).await?;
    let detail = describe(&engine, &args.container).await?;
    let request = Request::Attach {
        container: args.container.clone(),
    };
    let conversation = engine.open(&request).await?;
    follow(conversation, &detail, !args.no_stdin, &args.terminal).await
}

async fn start_one(context: &Context, container: String) -> Result<()> {
    start_in(&context.engine_of(&container).await?, container, false).await
}

/// Starts a container, as the second half of a restart where it `restarts`.
async fn start_in(engine: &Engine, container: String, restarts: bool) -> Result<()> {
    let detail = describe(engine, &container).await?;
    let mut request = start_request(engine, &detail, false).await?;
    if let Request::Start { restarts: it, .. } = &mut request {
        *it = restarts;
    }
    let publication = publish_again(engine, &detail).await?;
    let mut conversation = engine.open(&request).await?;
    conversation.await_answer().await?;
    publication.belongs_to(&detail.id).await?;
    Ok(conversation.reply().await.map(drop)?)
}

/// Takes the ports of a container that is about to start again.
async fn publish_again(engine: &Engine, detail: &ContainerDetail) -> Result<Publication> {
    let network = &detail.spec.options.network;
    let is_due = network.relayed && !detail.state.is_active();
    let ports = if is_due { &network.ports[..] } else { &[] };
    Ok(engine.machine().publish(ports, Word::Record).await?)
}

async fn describe(engine: &Engine, container: &str) -> Result<ContainerDetail> {
    let request = Request::Inspect {
        container: container.to_owned(),
    };
    match engine.ask(&request).await? {
        Reply::Container(detail) => Ok(*detail),
        _ => bail!("the agent did not describe container {container}"),
    }
}

/// Stays with the container's first process.
async fn follow(
    mut conversation: Conversation,
    detail: &ContainerDetail,
    stdin: bool,
    terminal: &TerminalArgs,
) -> Result<u8> {
    await_start(&mut conversation).await?;
    let process = &detail.spec.process;
    let tty = process.terminal.is_some();
    if let Some(size) = terminal::size().filter(|_| tty) {
        conversation.control(&ClientControl::Resize(size)).await?;
    }
    let how = Attach {
        stdin: stdin && process.open_stdin,
        tty,
        detach: detach_keys(terminal),
    };
    Ok(exit_status(session::attach(conversation, &how).await?))
}
