//! All that the commands print goes through here: results to standard output,
//! everything else to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod format;
mod size;
mod table;
mod time;

use std::io::{self, Write};

pub use format::{Listing, Template};
pub use size::{binary_size, decimal_size, short_size};
pub use table::Table;
pub use time::{moment, since};

/// Prints a result. A reader that has gone away ends the command quietly.
pub fn result(text: impl AsRef<str>) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    if let Err(error) = written {
        match error.kind() {
            io::ErrorKind::BrokenPipe => std::process::exit(0),
            _ => failure(&format!("cannot write to standard output: {error}")),
        }
    }
}

/// Says how things are going.
pub fn progress(text: impl AsRef<str>) {
    // Nothing depends on anybody reading this.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Says what went wrong, as one line in which nothing can pose as ours.
pub fn failure(text: &str) {
    progress(format!("isolazi: {}", printable(text)));
}

/// Says what went wrong, with its causes, as [`failure`] does.
pub fn error(error: impl Into<anyhow::Error>) {
    failure(&format!("{:#}", error.into()));
}

/// Says what the user should know although it worked.
pub fn warning(text: &str) {
    progress(format!("isolazi: warning: {}", printable(text)));
}

/// Says what the user may want to know.
pub fn note(text: &str) {
    progress(format!("isolazi: note: {}", printable(text)));
}

/// JSON over several lines, with its control characters escaped.
pub fn pretty(value: &serde_json::Value) -> String {
    format::escaped(&format!("{value:#}"))
}

/// Text from elsewhere with its control characters made visible.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = (!character.is_control()).then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(printable("a\x1b[31mb\nü"), "a\\u{1b}[31mb\\nü");
    }
}
