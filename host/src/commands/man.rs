//! `isolazi man`.

use std::fs;

use anyhow::{Context as _, Result};

use crate::cli::{self, ManArgs};
use crate::output;

pub(super) fn man(args: &ManArgs) -> Result<()> {
    let command = cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        output::result(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    let failed = || format!("cannot write manual pages to {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    clap_mangen::generate_to(command, dir).with_context(failed)
}
