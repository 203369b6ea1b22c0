//! `isolazi images`.

mod select;

use std::cmp::Reverse;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::ImagesArgs;
use crate::commands::Context;
use crate::image::Image;
use crate::output::{self, Listing};

use select::Selection;

/// Digits of an image's id that a listing shows.
const SHORT: usize = 12;
/// What stands for something that there is not.
const NONE: &str = "<none>";
const TABLE: &str = r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    r"{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
/// The fields, with the headings that they have in a table.
const HEADS: [(&str, &str); 12] = [
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Labels", "LABELS"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

pub(super) fn images(context: &Context, args: &ImagesArgs) -> Result<()> {
    let selection = Selection::new(args)?;
    let mut listing = listing(args)?;
    let found = context.images()?.list()?;
    for warning in &found.warnings {
        output::warning(warning);
    }
    let mut images = selection.apply(found.images)?;
    // Newest first; those of one age stay by name.
    images.sort_by_key(|image| Reverse(image.created));
    for image in &images {
        let labels = &image.config.labels;
        listing.labelled(fields(image, !args.no_trunc), labels)?;
    }
    listing.print();
    Ok(())
}

fn listing(args: &ImagesArgs) -> Result<Listing> {
    let table = match args.digests {
        true => TABLE_WITH_DIGESTS,
        false => TABLE,
    };
    let format = Listing::quiet(args.quiet, args.format.as_deref());
    Ok(Listing::new(format, table, &HEADS)?)
}

/// An image's fields, under Docker's names.
fn fields(image: &Image, short: bool) -> Value {
    let id = image.config_digest.hex();
    let created = |words: fn(std::time::SystemTime) -> String| {
        image.created.map_or_else(|| "N/A".to_owned(), words)
    };
    json!({
        "Repository": match image.reference.is_unnamed() {
            true => NONE.to_owned(),
            false => image.reference.familiar_name(),
        },
        "Tag": image.reference.tag().unwrap_or(NONE),
        "Digest": image.manifest_digest,
        "ID": match short {
            true => id[..SHORT].to_owned(),
            false => format!("sha256:{id}"),
        },
        "CreatedSince": created(|it| format!("{} ago", output::since(it))),
        "CreatedAt": created(output::moment),
        "Size": output::short_size(image.size),
        "VirtualSize": output::short_size(image.size),
        // As Docker prints them where they were not asked for.
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    })
}
