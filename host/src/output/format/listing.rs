//! Listings: rows of fields under headings, in whichever form is asked for.
//!
//! ```text
//!  let mut listing = Listing::new(args.format.as_deref(), TABLE, HEADS)?;
//!  for volume in &volumes { listing.row(&json!({ "Name": volume.name }))?; }
//!  listing.print();
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{FormatError, Template};
use crate::output::{self, table};

/// Rows in the form that the user asked for.
#[derive(Debug)]
pub struct Listing {
    template: Template,
    /// The names of columns, in a table.
    heading: Option<Value>,
    lines: Vec<String>,
}

impl Listing {
    /// The form that shows ids only, if that is wanted and `format` is no other.
    pub fn quiet(quiet: bool, format: Option<&str>) -> Option<&str> {
        match (quiet, format) {
            (true, None | Some("" | "table")) => Some("{{.ID}}"),
            (_, format) => format,
        }
    }

    /// A listing in the form of `--format`: `json`, `table`, `table TEMPLATE`
    /// or `TEMPLATE`. Without it, or with a bare `table`, the columns are
    /// those of `table`, a template such as `{{.ID}}\t{{.Name}}`. `heads` are
    /// the fields that a row has, each with its heading.
    pub fn new(
        format: Option<&str>,
        table: &str,
        heads: &[(&str, &str)],
    ) -> Result<Self, FormatError> {
        let (columns, source) = match format.unwrap_or_default().trim() {
            "" | "table" => (true, table),
            other => match other
                .strip_prefix("table")
                .filter(|it| !it.starts_with('{'))
            {
                Some(columns) if columns.starts_with([' ', '\t', '\\']) => {
                    (true, columns.trim_start())
                }
                _ => (false, format.unwrap_or_default()),
            },
        };
        let template = Template::parse(source)?;
        let names = heads
            .iter()
            .map(|(field, head)| ((*field).to_owned(), Value::from(*head)))
            .collect::<Map<_, _>>();
        let names = Value::from(names);
        let mut listing = Self {
            template,
            heading: None,
            lines: Vec::new(),
        };
        if columns {
            // A mistake shows although there may be no row.
            listing.lines.push(listing.template.heading(&names)?);
            listing.heading = Some(names);
        }
        Ok(listing)
    }

    /// Whether the form names this field, so that it is worth finding out.
    pub fn mentions(&self, field: &str) -> bool {
        self.template.mentions(field)
    }

    /// Adds a row.
    pub fn row(&mut self, fields: &Value) -> Result<(), FormatError> {
        self.lines.push(self.template.line(fields)?);
        Ok(())
    }

    /// Adds a row with labels, which its field `Labels` shows as a text
    /// (`k=v,…`) and `{{.Label "k"}}` one by one.
    pub fn labelled(
        &mut self,
        mut fields: Value,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), FormatError> {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        let labels: Map<_, _> = labels.collect();
        fields["Labels"] = Value::from(super::value::joined(&labels));
        self.lines.push(self.template.row(&fields, &labels)?);
        Ok(())
    }

    /// The whole as text, without a newline at the end.
    pub fn render(self) -> String {
        match self.heading {
            Some(_) => table::columns(&self.lines),
            None => self.lines.join("\n"),
        }
    }

    /// Prints it; nothing where there are no lines.
    pub fn print(self) {
        if !self.lines.is_empty() {
            output::result(self.render());
        }
    }
}
