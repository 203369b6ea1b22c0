//! `isolazi inspect`: a container of the name, else an image.

use anyhow::{Result, anyhow, bail};
use isolazi_protocol::{Reply, Request};
use serde_json::Value;

use crate::cli::{InspectArgs, InspectKind};
use crate::commands::{Context, FAILURE};
use crate::image::ImageError;
use crate::inspect;
use crate::output;

pub(super) async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8> {
    let template = args.format.template()?;
    let mut details = Vec::new();
    let mut status = 0;
    for name in &args.containers {
        let described = match (detail(context, args.kind, name).await, &template) {
            (Ok(detail), Some(template)) => template
                .line(&detail)
                .map(output::result)
                .map_err(anyhow::Error::from),
            (Ok(detail), None) => {
                details.push(detail);
                Ok(())
            }
            (Err(error), _) => Err(error),
        };
        if let Err(error) = described {
            output::failure(&format!("{error:#}"));
            status = FAILURE;
        }
    }
    if template.is_none() {
        output::result(output::pretty(&Value::from(details)));
    }
    Ok(status)
}

async fn detail(context: &Context, kind: Option<InspectKind>, name: &str) -> Result<Value> {
    if kind != Some(InspectKind::Image)
        && let Some(container) = container(context, kind, name).await?
    {
        return Ok(container);
    }
    let store = context.images()?;
    let found = match store.find(name) {
        Err(ImageError::NoSuchImage(name)) if kind.is_none() => Err(anyhow!(
            "no such container or image: {name}; isolazi ps -a and isolazi images list them"
        )),
        other => Ok(other?),
    }?;
    Ok(store.describe(found.image(), &store.list()?.images)?)
}

/// The container of this name; `None` where there is none and it may as well
/// be an image.
async fn container(
    context: &Context,
    kind: Option<InspectKind>,
    name: &str,
) -> Result<Option<Value>> {
    let request = Request::Inspect {
        container: name.to_owned(),
    };
    let engine = context.engine_of(name).await?;
    match engine.ask(&request).await {
        Ok(Reply::Container(detail)) => Ok(Some(inspect::container(&detail, engine.isolation()))),
        Ok(_) => bail!("the agent did not describe container {name}"),
        Err(error) if kind.is_none() && error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
