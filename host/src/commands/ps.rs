//! `isolazi ps`.

mod fields;
mod select;

use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::cli::PsArgs;
use crate::commands::Context;
use crate::commands::places::Resident;
use crate::output::Listing;

pub(super) use fields::moment;
use select::Selection;

const TABLE: &str = r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Isolation}}\t{{.Names}}";

pub(super) async fn ps(context: &Context, args: &PsArgs) -> Result<()> {
    let selection = Selection::new(args)?;
    let mut listing = listing(args)?;
    let size = args.size || listing.mentions("Size");
    let containers = context.residents(selection.needs_all(), size).await?;
    fill(&mut listing, &selection.apply(containers)?, !args.no_trunc)?;
    listing.print();
    Ok(())
}

fn listing(args: &PsArgs) -> Result<Listing> {
    let table = match args.size {
        true => format!(r"{TABLE}\t{{{{.Size}}}}"),
        false => TABLE.to_owned(),
    };
    let format = Listing::quiet(args.quiet, args.format.as_deref());
    Ok(Listing::new(format, &table, &fields::HEADS)?)
}

fn fill(listing: &mut Listing, residents: &[Resident], short: bool) -> Result<()> {
    for resident in residents {
        let labels = &resident.container.labels;
        listing.labelled(fields::of(resident, short), labels)?;
    }
    Ok(())
}

/// How long ago a moment was, in words.
pub(super) fn since(then: SystemTime) -> String {
    // A clock that was set back makes it "now".
    in_words(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// A duration in Docker's words.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Rounded, as Docker does.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, ..2) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests;
