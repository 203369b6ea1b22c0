//! `isolazi ps`.

mod fields;
mod select;

use anyhow::Result;

use crate::cli::PsArgs;
use crate::commands::Context;
use crate::commands::places::Resident;
use crate::output::Listing;

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

#[cfg(test)]
mod tests;
