//! The values that a template works on, and how they look.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::output::printable;

/// A value, and whose words it holds.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    /// A key that a map does not have.
    Missing,
    /// From elsewhere: control characters are made visible where it is shown.
    Data(Cow<'a, Value>),
    /// The template's own text, or text that is fit to be shown as it is.
    Text(String),
    /// A row's labels: `k=v,…` to look at, a map to work with.
    Labels(&'a Map<String, Value>),
}

impl<'a> Item<'a> {
    pub(super) fn borrowed(value: &'a Value) -> Self {
        Self::Data(Cow::Borrowed(value))
    }

    pub(super) fn owned(value: impl Into<Value>) -> Self {
        Self::Data(Cow::Owned(value.into()))
    }

    /// What Go takes for true: all but zero, nothing and what is empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Text(text) => !text.is_empty(),
            Self::Labels(labels) => !labels.is_empty(),
            Self::Data(value) => match &**value {
                Value::Null => false,
                Value::Bool(value) => *value,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
            },
        }
    }

    /// As it is printed.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Missing => "<no value>".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Labels(labels) => printable(&joined(labels)),
            Self::Data(value) => {
                let mut out = String::new();
                show(value, &mut out);
                out
            }
        }
    }

    /// Its text as it came, where it is a text.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Data(value) => value.as_str(),
            _ => None,
        }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Data(value) => value.as_i64(),
            _ => None,
        }
    }

    /// As JSON, fit to be shown.
    pub(super) fn json(&self) -> String {
        let value = match self {
            Self::Missing => Cow::Owned(Value::Null),
            Self::Text(text) => Cow::Owned(Value::from(text.as_str())),
            Self::Labels(labels) => Cow::Owned(Value::from(joined(labels))),
            Self::Data(value) => Cow::Borrowed(&**value),
        };
        escaped(&value.to_string())
    }

    /// The same kind of text as `self`, changed.
    pub(super) fn with_text(&self, text: String) -> Self {
        match self {
            Self::Text(_) => Self::Text(text),
            _ => Self::owned(text),
        }
    }

    /// How the two compare; `None` where they cannot be compared.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        if let (Some(a), Some(b)) = (self.as_str(), other.as_str()) {
            return Some(a.cmp(b));
        }
        match (self, other) {
            (Self::Data(a), Self::Data(b)) => match (&**a, &**b) {
                (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                    (Some(a), Some(b)) => Some(a.cmp(&b)),
                    _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the two are equal; `None` where Go would not compare them.
    pub(super) fn equals(&self, other: &Self) -> Option<bool> {
        if let Some(ordering) = self.compare(other) {
            return Some(ordering == Ordering::Equal);
        }
        let nothing = |item: &Self| match item {
            Self::Missing => true,
            Self::Data(value) => value.is_null(),
            _ => false,
        };
        match (self, other) {
            (a, b) if nothing(a) || nothing(b) => Some(nothing(a) && nothing(b)),
            (Self::Data(a), Self::Data(b)) => match (&**a, &**b) {
                (Value::Bool(a), Value::Bool(b)) => Some(a == b),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Labels as listings show them.
pub(super) fn joined(labels: &Map<String, Value>) -> String {
    let pairs = labels.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// Go's `%v`.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => out.push_str(&printable(text)),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                show(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            for (index, (key, field)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(&printable(key));
                out.push(':');
                show(field, out);
            }
            out.push(']');
        }
    }
}

/// JSON in which the control characters that it allows are escaped, too.
pub(in crate::output) fn escaped(json: &str) -> String {
    if !json.chars().any(char::is_control) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // Between the fields of indented JSON, and nowhere else.
            '\n' => out.push('\n'),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
