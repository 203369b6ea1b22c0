//! `isolazi history`.

use std::time::SystemTime;

use anyhow::Result;

use crate::cli::HistoryArgs;
use crate::commands::Context;
use crate::image::{Step, short};
use crate::output::{self, Table};

const LONGEST_COMMAND: usize = 45;

pub(super) fn history(context: &Context, args: &HistoryArgs) -> Result<()> {
    let store = context.images()?;
    let found = store.find(&args.image)?;
    let image = found.image();
    let id = match args.no_trunc {
        true => image.config_digest.as_str(),
        false => short(&image.config_digest),
    };
    let steps = store.history(image)?;
    // Only the last step has left an image.
    let ids = std::iter::once(id).chain(std::iter::repeat("<missing>"));
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for (id, step) in ids.zip(&steps) {
        match args.quiet {
            true => output::result(id),
            false => table.row(row(id, step, args)),
        }
    }
    if !args.quiet {
        output::result(table.render());
    }
    Ok(())
}

fn row(id: &str, step: &Step, args: &HistoryArgs) -> [String; 5] {
    [
        id.to_owned(),
        step.created
            .map_or_else(|| "N/A".to_owned(), |it| created(it, args.human)),
        command(&step.created_by, args.no_trunc),
        match args.human {
            true => output::short_size(step.size),
            false => step.size.to_string(),
        },
        step.comment.clone(),
    ]
}

fn created(time: SystemTime, human: bool) -> String {
    match human {
        true => format!("{} ago", output::since(time)),
        false => humantime::format_rfc3339_seconds(time).to_string(),
    }
}

/// One line, tabs as spaces, cut where it is long.
fn command(text: &str, whole: bool) -> String {
    let text = text.replace('\t', " ");
    if whole || text.chars().count() <= LONGEST_COMMAND {
        return text;
    }
    let start: String = text.chars().take(LONGEST_COMMAND - 1).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_unless_wanted_whole() {
        let long = "RUN ".repeat(30);
        assert_eq!(command(&long, false).chars().count(), LONGEST_COMMAND);
        assert_eq!(command(&long, true), long);
        assert_eq!(command("COPY\ta b", false), "COPY a b");
    }
}
