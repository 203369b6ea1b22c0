//! Listings in columns.

use super::printable;

const GAP: &str = "   ";
/// As in Docker's listings, a column takes at least ten characters.
const NARROWEST: usize = 10 - GAP.len();

/// Rows under a heading, every column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row, its control characters made visible.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The whole as text, without a newline at the end.
    pub fn render(&self) -> String {
        align(&self.rows)
    }
}

/// Lines whose columns are separated by tabs, aligned.
pub(super) fn columns(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .flat_map(|line| line.split('\n'))
        .map(|line| line.split('\t').collect())
        .collect();
    align(&rows)
}

fn align<S: AsRef<str>>(rows: &[Vec<S>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.as_ref().chars().count());
        widths.max().unwrap_or(0).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{:<width$}", cell.as_ref()))
            .collect();
        padded.join(GAP).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["longer-name".to_owned(), "1".to_owned()]);
        assert_eq!(table.render(), "NAME          X\nlonger-name   1");
    }
}
