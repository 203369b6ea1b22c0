//! What `--format` asks for: Docker's subset of Go's `text/template`.
//!
//! ```text
//!  "{{.ID}} {{json .State}}"  ─► lexer ─► parse ─► nodes
//!                                                    │  + one JSON value
//!                                                    ▼
//!                                                  exec ─► a line
//! ```
//!
//! There are crates for Go's templates; the ones looked at end the program on
//! deep nesting (`((((…`) or a wide `printf`, and keep text that comes from a
//! container apart from the template's own nowhere. Here both are bounded, and
//! what comes from elsewhere is shown with its control characters made visible
//! while a tab that the user wrote stays a tab; see [`value::Item`].
//!
//! Listings use [`Listing`], which adds `json` and `table TEMPLATE`.

mod exec;
mod functions;
mod lexer;
mod listing;
mod parse;
mod printf;
mod value;

use serde_json::{Map, Value};

pub use listing::Listing;
pub(super) use value::escaped;

use exec::Run;
use parse::Node;

/// Longest template that is taken, in bytes.
const MAX_TEMPLATE: usize = 64 << 10;
/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 64;

/// Why a template cannot be used, or not with the value it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid --format at character {position} ('{near}'): {reason}")]
pub struct FormatError {
    /// Where, counted in characters from 1.
    position: usize,
    /// What stands there.
    near: String,
    reason: String,
}

impl FormatError {
    /// An error at byte `at` of `source`.
    fn new(source: &str, fault: Fault) -> Self {
        let (before, after) = source.split_at_checked(fault.at).unwrap_or((source, ""));
        const NEAR: usize = 24;
        let mut near: String = after.chars().take(NEAR).collect();
        if after.chars().count() > NEAR {
            near.push('…');
        }
        Self {
            position: before.chars().count() + 1,
            near,
            reason: fault.reason,
        }
    }
}

/// What is wrong, at which byte of the template.
#[derive(Debug)]
struct Fault {
    at: usize,
    reason: String,
}

impl Fault {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self {
            at,
            reason: reason.into(),
        }
    }
}

/// A template that is well-formed.
#[derive(Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template; `json` alone stands for `{{json .}}`.
    pub fn parse(source: &str) -> Result<Self, FormatError> {
        let source = match source {
            "json" => "{{json .}}",
            other => other,
        };
        if source.len() > MAX_TEMPLATE {
            let fault = Fault::new(0, "it is too long");
            return Err(FormatError::new(source, fault));
        }
        let nodes = parse::parse(source).map_err(|fault| FormatError::new(source, fault))?;
        Ok(Self {
            source: source.to_owned(),
            nodes,
        })
    }

    /// What it makes of `value`, without a newline at the end.
    pub fn line(&self, value: &Value) -> Result<String, FormatError> {
        self.execute(Run::plain(value))
    }

    /// What it makes of a row, whose labels are looked up by their names.
    fn row(&self, row: &Value, labels: &Map<String, Value>) -> Result<String, FormatError> {
        self.execute(Run::row(row, labels))
    }

    /// What it makes of the names of columns.
    fn heading(&self, names: &Value) -> Result<String, FormatError> {
        self.execute(Run::heading(names))
    }

    fn execute(&self, run: Run<'_>) -> Result<String, FormatError> {
        run.execute(&self.nodes)
            .map_err(|fault| FormatError::new(&self.source, fault))
    }

    /// Whether the text names a field.
    fn mentions(&self, field: &str) -> bool {
        self.source.contains(&format!(".{field}"))
    }
}

#[cfg(test)]
mod tests;
