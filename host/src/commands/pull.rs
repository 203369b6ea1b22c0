//! `isolazi pull`, and how other commands come by an image.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::cli::{PullArgs, PullPolicy};
use crate::commands::Context;
use crate::engine::Engine;
use crate::image::{
    self, Image, ImageStore, NoProgress, Platform, Progress, PullOptions, Reference,
    stderr_progress,
};
use crate::output;

pub(super) async fn pull(context: &Context, args: &PullArgs) -> Result<()> {
    let reference: Reference = args.image.parse()?;
    let progress: Arc<dyn Progress> = match args.quiet {
        true => Arc::new(NoProgress),
        false => stderr_progress(),
    };
    let engine = context.engine()?;
    let platform = wanted_of(&engine, args.platform.as_deref())?;
    let image = match embedded(context, &args.image, args.platform.as_deref())? {
        Some(image) => {
            push(context, &engine, &image).await?;
            image
        }
        None => fetch(context, &engine, &reference, platform, progress).await?,
    };
    output::result(image.reference.canonical());
    Ok(())
}

/// The image from the store, from this program itself, or from its registry.
pub(super) async fn obtain(
    context: &Context,
    engine: &Engine,
    name: &str,
    wanted: Option<&str>,
    policy: PullPolicy,
) -> Result<Image> {
    let reference: Reference = match (name.parse(), by_id(&context.images()?, name)?) {
        (Ok(reference), None) => reference,
        (_, Some(image)) => return Ok(image),
        (Err(error), None) => return Err(error.into()),
    };
    if let Some(image) = embedded(context, name, wanted)? {
        return Ok(image);
    }
    let platform = wanted_of(engine, wanted)?;
    if policy == PullPolicy::Always {
        return fetch(context, engine, &reference, platform, stderr_progress()).await;
    }
    if let Some(image) = stored(&context.images()?, &reference)?
        && (wanted.is_none() || suits(&image, &platform))
    {
        return Ok(image);
    }
    if wanted.is_none()
        && let Some(image) = image::embedded(&context.images()?, name)?
    {
        return Ok(image);
    }
    if policy == PullPolicy::Never {
        bail!("no such image: {reference}; pull it, or leave --pull never out");
    }
    output::progress(format!("Unable to find image '{reference}' locally"));
    fetch(context, engine, &reference, platform, stderr_progress()).await
}

/// The stored image whose id starts like this, where no image has it as its name.
fn by_id(store: &ImageStore, word: &str) -> Result<Option<Image>> {
    let digits = word.strip_prefix("sha256:").unwrap_or(word);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    match store.find(word) {
        Ok(found) if found.by_id => Ok(Some(found.image().clone())),
        Err(error @ image::ImageError::AmbiguousId(_)) => Err(error.into()),
        // Names are looked for by those who can mend what is damaged.
        _ => Ok(None),
    }
}

/// The image that this program brings along, where `name` means one and it
/// suits the platform.
fn embedded(context: &Context, name: &str, wanted: Option<&str>) -> Result<Option<Image>> {
    let wanted = wanted.map(str::parse::<Platform>).transpose()?;
    let image = image::embedded(&context.images()?, name)?;
    Ok(image.filter(|image| wanted.is_none_or(|wanted| suits(image, &wanted))))
}

/// Gives the engine those layers of a stored image that it lacks.
pub(super) async fn push(context: &Context, engine: &Engine, image: &Image) -> Result<()> {
    image::push_layers(
        &context.images()?,
        image,
        Arc::new(engine.clone()),
        Arc::new(NoProgress),
    )
    .await
    .with_context(|| format!("cannot unpack image {}", image.reference))
}

pub(super) fn platform(wanted: Option<&str>) -> Result<Platform> {
    Ok(wanted
        .map(str::parse)
        .transpose()?
        .unwrap_or_else(Platform::host))
}

/// What was asked for, else what the engine's processor executes.
fn wanted_of(engine: &Engine, wanted: Option<&str>) -> Result<Platform> {
    match wanted {
        Some(wanted) => Ok(wanted.parse()?),
        None => Ok(engine.platform()),
    }
}

/// Says that an image that nobody asked to be foreign is, as Docker does: perhaps the
/// kernel has an interpreter for it, perhaps the image only says so.
pub(super) fn warn_of_foreign(engine: &Engine, image: &Image) {
    let here = engine.platform();
    if let Some(is) = &image.platform
        && !suits(image, &here)
    {
        output::warning(&format!(
            "The requested image's platform ({is}) does not match the detected host platform ({here}) and no specific platform was requested"
        ));
    }
}

fn suits(image: &Image, wanted: &Platform) -> bool {
    let is = image.platform.as_ref();
    is.is_none_or(|platform| wanted.rank(platform).is_some())
}

/// An entry that cannot be read is as good as none: pulling mends it.
fn stored(store: &ImageStore, reference: &Reference) -> Result<Option<Image>> {
    match store.resolve(reference) {
        Ok(found) => Ok(found),
        Err(error) => {
            output::warning(&format!(
                "{:#}; pulling it again",
                anyhow::Error::from(error)
            ));
            Ok(None)
        }
    }
}

async fn fetch(
    context: &Context,
    engine: &Engine,
    reference: &Reference,
    platform: Platform,
    progress: Arc<dyn Progress>,
) -> Result<Image> {
    let options = PullOptions {
        platform,
        network: context.network()?,
    };
    let sink = Arc::new(engine.clone());
    let image = image::pull(&context.images()?, reference, &options, sink, progress).await?;
    context.name_happened("pull", reference);
    Ok(image)
}
