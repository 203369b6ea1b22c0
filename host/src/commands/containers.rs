//! `isolazi stop`, `rm` and `inspect`: one request for each container named.

use anyhow::{Result, bail};
use isolazi_protocol::{Reply, Request};
use serde_json::Value;

use crate::cli::{InspectArgs, RmArgs, StopArgs};
use crate::commands::{Context, FAILURE};
use crate::engine::Engine;
use crate::inspect;
use crate::output;

pub(super) async fn stop(context: &Context, args: &StopArgs) -> Result<u8> {
    for_each(context, &args.containers, |container| Request::Stop {
        container,
        timeout: args.time,
    })
    .await
}

pub(super) async fn rm(context: &Context, args: &RmArgs) -> Result<u8> {
    for_each(context, &args.containers, |container| Request::Remove {
        container,
        force: args.force,
        volumes: args.volumes,
    })
    .await
}

/// Carries on past containers that fail, and says so at the end.
async fn for_each(
    context: &Context,
    containers: &[String],
    request: impl Fn(String) -> Request,
) -> Result<u8> {
    let engine = context.engine()?;
    let mut status = 0;
    for container in containers {
        match engine.ask(&request(container.clone())).await {
            Ok(_) => output::result(output::printable(container)),
            Err(error) => {
                output::failure(&format!("{:#}", anyhow::Error::from(error)));
                status = FAILURE;
            }
        }
    }
    Ok(status)
}

pub(super) async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8> {
    let engine = context.engine()?;
    let mut details = Vec::new();
    let mut status = 0;
    for container in &args.containers {
        match detail(context, &engine, container).await {
            Ok(detail) => details.push(detail),
            Err(error) => {
                output::failure(&format!("{error:#}"));
                status = FAILURE;
            }
        }
    }
    output::result(serde_json::to_string_pretty(&details)?);
    Ok(status)
}

async fn detail(context: &Context, engine: &Engine, container: &str) -> Result<Value> {
    let request = Request::Inspect {
        container: container.to_owned(),
    };
    match engine.ask(&request).await? {
        Reply::Container(detail) => Ok(inspect::container(&detail, context.isolation())),
        _ => bail!("the agent did not describe container {container}"),
    }
}
