//! `isolazi images`.

use anyhow::Result;

use crate::cli::ImagesArgs;
use crate::commands::{Context, ps};
use crate::output::{self, Table};

/// Digits of an image's id that a listing shows.
const SHORT: usize = 12;

pub(super) fn images(context: &Context, args: &ImagesArgs) -> Result<()> {
    let listing = context.images()?.list()?;
    for warning in &listing.warnings {
        output::warning(warning);
    }
    let images = listing.images;
    if args.quiet {
        for image in images {
            output::result(&image.config_digest.hex()[..SHORT]);
        }
        return Ok(());
    }
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in images {
        table.row([
            match image.reference.is_unnamed() {
                true => "<none>".to_owned(),
                false => image.reference.familiar_name(),
            },
            image.reference.tag().unwrap_or("<none>").to_owned(),
            image.config_digest.hex()[..SHORT].to_owned(),
            image.created.map_or_else(
                || "N/A".to_owned(),
                |created| format!("{} ago", ps::since(created)),
            ),
            human_size(image.size),
        ]);
    }
    output::result(table.render());
    Ok(())
}

/// Bytes in decimal units with three digits, as Docker prints them.
pub(super) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (7_340_000, "7.34MB"),
            (123_456_789, "123MB"),
            (5_000_000_000_000_000, "5000TB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
