//! `isolazi commit`.
//!
//! ```text
//!  agent: the container's changes as a layer ─► a blob of the store ─► config, manifest, name
//! ```

use anyhow::{Context as _, Result, bail};
use isolazi_protocol::{ContainerSpec, Content, Digest, ObjectKind, Reply, Request};

use crate::cli::CommitArgs;
use crate::commands::{Context, read};
use crate::engine::Engine;
use crate::image::{Derivation, ImageStore, Reference, check_derivation, derive};
use crate::output;

pub(super) async fn commit(context: &Context, args: &CommitArgs) -> Result<()> {
    let name = args.reference.as_deref().map(name).transpose()?;
    let engine = context.engine_of(&args.container).await?;
    let store = context.images()?;
    let (id, container, spec) = inspect(&engine, &args.container).await?;
    let mut what = Derivation {
        container: &spec,
        changes: &args.change,
        author: &args.author,
        message: &args.message,
        layer: (spec.image.id.clone(), 0),
    };
    // Better known before the layer is read than after.
    check_derivation(&store, &what)?;
    what.layer = layer(&engine, &store, id.clone()).await?;
    let image = derive(&store, &what, name.as_ref())?;
    let image_id = image.config_digest.to_string();
    let attributes = [
        ("comment", args.message.clone()),
        ("image", spec.image.reference.clone()),
        ("imageID", image_id.clone()),
        ("imageRef", image.reference.to_string()),
        ("name", container),
    ];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value));
    context.happened(ObjectKind::Container, "commit", &id, attributes.into());
    output::result(image_id);
    Ok(())
}

fn name(text: &str) -> Result<Reference> {
    let name: Reference = text.parse()?;
    if name.digest().is_some() {
        bail!("an image cannot be named by a digest: leave out the part after '@'");
    }
    Ok(name)
}

async fn inspect(engine: &Engine, container: &str) -> Result<(String, String, ContainerSpec)> {
    let request = Request::Inspect {
        container: container.to_owned(),
    };
    match engine.ask(&request).await? {
        Reply::Container(detail) => Ok((detail.id.to_string(), detail.name, detail.spec)),
        _ => bail!("the agent did not describe container {container}"),
    }
}

/// Stores the container's changes.
async fn layer(engine: &Engine, store: &ImageStore, container: String) -> Result<(Digest, u64)> {
    let request = Request::Read {
        container,
        content: Content::Layer,
    };
    let mut conversation = engine.open(&request).await?;
    let mut blob = store.fresh_blob()?;
    while let Some(bytes) = read::next(&mut conversation).await? {
        read::taken(&mut conversation, &bytes).await;
        blob.write(&bytes)?;
    }
    // fsync of a large layer takes its time.
    let kept = tokio::task::spawn_blocking(|| blob.finish()).await;
    Ok(kept.context("storing the layer broke off")??)
}
