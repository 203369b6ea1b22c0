//! `isolazi tag`.

use anyhow::{Result, bail};

use crate::cli::TagArgs;
use crate::commands::Context;
use crate::image::Reference;

pub(super) fn tag(context: &Context, args: &TagArgs) -> Result<()> {
    let target: Reference = args.target.parse()?;
    if target.digest().is_some() {
        bail!("cannot tag as '{target}': a name to give has no digest");
    }
    let store = context.images()?;
    let found = store.find(&args.source)?;
    store.add_name(&target, &found.image().manifest_digest)?;
    let id = found.image().config_digest.as_str();
    context.image_happened("tag", id, &target.to_string());
    Ok(())
}
