//! `isolazi stop` and `rm`: one request for each container named.

use anyhow::Result;
use isolazi_protocol::Request;

use crate::cli::{RmArgs, StopArgs};
use crate::commands::{Context, FAILURE};
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
