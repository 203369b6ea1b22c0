//! `isolazi stop`, `rm`, `kill` and others: one request for each container named.

use anyhow::{Result, bail};
use isolazi_protocol::{CgroupLimits, Event, Request};

use crate::cli::{KillArgs, NamedArgs, RenameArgs, RmArgs, StopArgs, UpdateArgs};
use crate::commands::{Context, FAILURE};
use crate::connection::Incoming;
use crate::{options, output};

pub(super) async fn stop(context: &Context, args: &StopArgs) -> Result<u8> {
    ask_for_each(context, &args.containers, |container| Request::Stop {
        container,
        timeout: args.time,
    })
    .await
}

pub(super) async fn rm(context: &Context, args: &RmArgs) -> Result<u8> {
    each(&args.containers, |container| async {
        let engine = context.engine_of(&container).await?;
        let remove = Request::Remove {
            container,
            force: args.force,
            volumes: args.volumes,
        };
        engine.ask(&remove).await?;
        context.refresh(&engine).await
    })
    .await
}

pub(super) async fn kill(context: &Context, args: &KillArgs) -> Result<u8> {
    ask_for_each(context, &args.containers, |container| Request::Kill {
        container,
        signal: args.signal.clone(),
    })
    .await
}

pub(super) async fn pause(context: &Context, args: &NamedArgs) -> Result<u8> {
    ask_for_each(context, &args.containers, |container| Request::Pause {
        container,
    })
    .await
}

pub(super) async fn unpause(context: &Context, args: &NamedArgs) -> Result<u8> {
    ask_for_each(context, &args.containers, |container| Request::Unpause {
        container,
    })
    .await
}

pub(super) async fn update(context: &Context, args: &UpdateArgs) -> Result<u8> {
    let limits = options::limits(&args.limits)?;
    let pids_limit = args.pids_limit.map(options::pids_limit);
    if args.restart.is_none() && pids_limit.is_none() && limits == CgroupLimits::default() {
        bail!("nothing to change: give --restart, or a limit such as --memory");
    }
    ask_for_each(context, &args.containers, |container| Request::Update {
        container,
        restart: args.restart,
        pids_limit,
        limits: Box::new(limits.clone()),
    })
    .await
}

pub(super) async fn rename(context: &Context, args: &RenameArgs) -> Result<u8> {
    let request = Request::Rename {
        container: args.container.clone(),
        name: args.name.clone(),
    };
    let engine = context.engine_of(&args.container).await?;
    let _names = context.lock_names()?;
    let place = engine.isolation();
    context.ensure_free(&args.name, place).await?;
    engine.ask(&request).await?;
    context.refresh(&engine).await?;
    Ok(0)
}

/// Prints how each container ended, once it has.
pub(super) async fn wait(context: &Context, args: &NamedArgs) -> Result<u8> {
    let mut status = 0;
    for container in &args.containers {
        match end_of(context, container).await {
            Ok(code) => output::result(code.to_string()),
            Err(error) => {
                output::failure(&format!("{error:#}"));
                status = FAILURE;
            }
        }
    }
    Ok(status)
}

async fn end_of(context: &Context, container: &str) -> Result<i32> {
    let engine = context.engine_of(container).await?;
    let request = Request::Wait {
        container: container.to_owned(),
    };
    let mut conversation = engine.open(&request).await?;
    loop {
        match conversation.next().await? {
            Incoming::Event(Event::Exited(code)) => return Ok(code),
            Incoming::Event(_) => {}
            _ => bail!("the agent did not say how container {container} ended"),
        }
    }
}

async fn ask_for_each(
    context: &Context,
    containers: &[String],
    request: impl Fn(String) -> Request,
) -> Result<u8> {
    each(containers, |container| async {
        let engine = context.engine_of(&container).await?;
        Ok(engine.ask(&request(container)).await.map(drop)?)
    })
    .await
}

/// Carries on past containers that fail, and says so at the end.
pub(super) async fn each<F>(containers: &[String], act: impl Fn(String) -> F) -> Result<u8>
where
    F: Future<Output = Result<()>>,
{
    let mut status = 0;
    for container in containers {
        match act(container.clone()).await {
            Ok(()) => output::result(output::printable(container)),
            Err(error) => {
                output::failure(&format!("{error:#}"));
                status = FAILURE;
            }
        }
    }
    Ok(status)
}
