//! `isolazi rmi`.

use std::time::Duration;

use anyhow::Result;

use crate::cli::RmiArgs;
use crate::commands::{Context, FAILURE, engines};
use crate::engine::Engine;
use crate::image::{self, Image, ImageError, ImageStore, Reference, Use};
use crate::output;

/// How long pulls that are under way are waited for; what is left in the store
/// goes with the next removal.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn rmi(context: &Context, args: &RmiArgs) -> Result<u8> {
    let store = context.images()?;
    let engines = engines::present(context).await?;
    let uses = engines::uses(&engines).await?;
    let mut status = 0;
    let mut removed = false;
    for word in &args.images {
        match remove(context, &store, word, &uses, args.force) {
            Ok(()) => removed = true,
            Err(error) => {
                output::failure(&format!("{error:#}"));
                status = FAILURE;
            }
        }
    }
    if removed {
        sweep(&store, &engines).await?;
    }
    Ok(status)
}

/// Takes names away and tells which, and which images have none left.
fn remove(
    context: &Context,
    store: &ImageStore,
    word: &str,
    uses: &[Use],
    force: bool,
) -> Result<()> {
    let found = match store.find(word) {
        Ok(found) => found,
        Err(error) => return remove_damaged(store, word, error),
    };
    let before = store.list()?.images;
    let names = image::removal(&before, &found, uses, force)?;
    for name in names {
        if store.untag(&name)? && !name.is_unnamed() {
            output::result(format!("Untagged: {name}"));
            context.image_happened(
                "untag",
                found.image().config_digest.as_str(),
                &name.to_string(),
            );
        }
    }
    tell_deleted(context, found.image(), &store.list()?.images);
    Ok(())
}

/// An image that cannot be read any more can be removed all the same.
fn remove_damaged(store: &ImageStore, word: &str, error: ImageError) -> Result<()> {
    let damaged = matches!(
        error,
        ImageError::Damaged { .. } | ImageError::Malformed { .. }
    );
    let (true, Ok(name)) = (damaged, word.parse::<Reference>()) else {
        return Err(error.into());
    };
    store.untag(&name)?;
    output::result(format!("Untagged: {name}"));
    Ok(())
}

fn tell_deleted(context: &Context, image: &Image, left: &[Image]) {
    if left
        .iter()
        .any(|it| it.config_digest == image.config_digest)
    {
        return;
    }
    output::result(format!("Deleted: {}", image.config_digest));
    let id = image.config_digest.as_str();
    context.image_happened("delete", id, id);
    let needed = engines::diff_ids(left);
    for layer in engines::diff_ids(std::slice::from_ref(image)) {
        if needed.binary_search(&layer).is_err() {
            output::result(format!("Deleted: {layer}"));
        }
    }
}

/// Removes what no image needs any more, here and from the engines.
async fn sweep(store: &ImageStore, engines: &[Engine]) -> Result<()> {
    let Some(alone) = store.alone(PATIENCE).await? else {
        output::warning("images are being added; `isolazi image prune` frees the space later");
        return Ok(());
    };
    store.collect(&alone)?;
    engines::prune_layers(engines, store).await?;
    Ok(())
}
