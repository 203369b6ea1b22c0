//! What `wsl.exe --list --verbose` says.
//!
//! ```text
//!   NAME            STATE           VERSION
//! * Ubuntu-22.04    Running         2
//!   isolazi         Stopped         2
//! ```
//!
//! Headers and states are in Windows' language, and the states may have several
//! words; names have no blanks.

/// A distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: String,
    /// 1 or 2 so far.
    pub(super) version: Option<u32>,
}

impl Row {
    /// Whether it runs, where the state is one that is known.
    pub(super) fn is_running(&self) -> Option<bool> {
        match self.state.as_str() {
            "Running" => Some(true),
            "Stopped" => Some(false),
            _ => None,
        }
    }
}

/// The row of the distribution `name`, whatever its case.
pub(super) fn find(said: &str, name: &str) -> Option<Row> {
    said.lines().find_map(|line| row(line, name))
}

fn row(line: &str, name: &str) -> Option<Row> {
    let line = line.trim();
    let line = line.strip_prefix('*').unwrap_or(line);
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let version: u32 = words.pop()?.parse().ok()?;
    let (first, state) = words.split_first()?;
    first.eq_ignore_ascii_case(name).then(|| Row {
        state: state.join(" "),
        version: Some(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "  NAME            STATE           VERSION\r\n\
                           * Ubuntu-22.04    Running         1\r\n\
                           \x20 isolazi         Stopped         2\r\n";
    const GERMAN: &str = "  NAME       STATUS             VERSION\n\
                          * isolazi    Wird ausgeführt    2\n";

    #[test]
    fn the_row_is_found_by_name() {
        let row = find(ENGLISH, "isolazi").unwrap();
        assert_eq!((row.is_running(), row.version), (Some(false), Some(2)));
        let row = find(ENGLISH, "ubuntu-22.04").unwrap();
        assert_eq!((row.is_running(), row.version), (Some(true), Some(1)));
        assert_eq!(find(ENGLISH, "NAME"), None);
        assert_eq!(find("", "isolazi"), None);
    }

    #[test]
    fn a_state_in_another_language_is_not_guessed() {
        let row = find(GERMAN, "isolazi").unwrap();
        assert_eq!(row.is_running(), None);
        assert_eq!(row.state, "Wird ausgeführt");
    }
}
