//! `isolazi push`.

use std::sync::Arc;

use anyhow::Result;

use crate::cli::PushArgs;
use crate::commands::Context;
use crate::image::{self, ImageError, NoProgress, Progress, Reference, stderr_progress};
use crate::output;

pub(super) async fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let reference: Reference = args.image.parse()?;
    let store = context.images()?;
    let Some(image) = store.resolve(&reference)? else {
        return Err(ImageError::NoSuchImage(reference.to_string()).into());
    };
    let progress: Arc<dyn Progress> = match args.quiet {
        true => Arc::new(NoProgress),
        false => stderr_progress(),
    };
    let network = context.network()?;
    let pushed = image::push(&store, &image, &reference, &network, progress).await?;
    context.name_happened("push", &reference);
    match (args.quiet, reference.tag()) {
        (true, _) => output::result(reference.canonical()),
        (false, tag) => output::result(format!(
            "{}: digest: {} size: {}",
            tag.unwrap_or("manifest"),
            pushed.digest,
            pushed.size
        )),
    }
    Ok(())
}
