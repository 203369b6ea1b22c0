//! The question before something is lost.

use std::io::{BufRead, Write};

use anyhow::Result;

use crate::output;

/// Says what will go, and whether the user agrees; no answer is none.
pub(super) fn confirmed(what: &[&str]) -> Result<bool> {
    output::progress("WARNING! This will remove:");
    for item in what {
        output::progress(format!("  - {item}"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "Are you sure you want to continue? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.is_empty() {
        writeln!(stderr)?;
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
