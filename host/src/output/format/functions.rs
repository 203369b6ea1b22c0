//! The functions of a template: Go's own, and Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::printf;
use super::value::Item;

const NAMES: [&str; 23] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Most spaces that `pad` adds on a side.
const MOST_SPACES: i64 = 4096;

#[cfg(test)]
pub(super) fn names() -> &'static [&'static str] {
    &NAMES
}

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function that exists; the error says what is wrong with the arguments.
pub(super) fn call<'a>(name: &str, arguments: &[Item<'a>]) -> Result<Item<'a>, String> {
    match (name, arguments) {
        ("json", [value]) => Ok(Item::Text(value.json())),
        ("len", [value]) => len(value),
        ("index", [first, keys @ ..]) => keys
            .iter()
            .try_fold(first.clone(), |item, key| index(&item, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("join", [list, separator]) => join(list, separator),
        ("split", [value, separator]) => split(value, separator),
        ("lower", [value]) => change(value, str::to_lowercase),
        ("upper", [value]) => change(value, str::to_uppercase),
        ("title", [value]) => change(value, title),
        ("pad", [value, before, after]) => pad(value, before, after),
        ("truncate", [value, length]) => truncate(value, length),
        ("print", values) => Ok(Item::Text(print(values))),
        ("println", values) => {
            let shown: Vec<String> = values.iter().map(Item::shown).collect();
            Ok(Item::Text(shown.join(" ") + "\n"))
        }
        ("printf", [format, values @ ..]) => {
            let format = format.as_str().ok_or("printf's format is a text")?;
            printf(format, values).map(Item::Text)
        }
        ("not", [value]) => Ok(Item::owned(!value.is_true())),
        // Which argument decides was found while they were evaluated.
        ("and" | "or", [.., last]) => Ok(last.clone()),
        ("eq", [first, others @ ..]) if !others.is_empty() => equals_any(first, others),
        ("ne", [first, second]) => equals(first, second).map(|equal| Item::owned(!equal)),
        ("lt", [a, b]) => compare(a, b, Ordering::is_lt),
        ("le", [a, b]) => compare(a, b, Ordering::is_le),
        ("gt", [a, b]) => compare(a, b, Ordering::is_gt),
        ("ge", [a, b]) => compare(a, b, Ordering::is_ge),
        (_, arguments) => Err(format!(
            "'{name}' cannot be called with {} arguments",
            arguments.len()
        )),
    }
}

fn len<'a>(value: &Item<'_>) -> Result<Item<'a>, String> {
    let length = match value {
        Item::Missing => 0,
        Item::Text(text) => text.len(),
        Item::Labels(labels) => labels.len(),
        Item::Data(value) => match &**value {
            Value::Null => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            Value::Bool(_) | Value::Number(_) => return Err("a number has no length".to_owned()),
        },
    };
    Ok(Item::owned(length))
}

fn index<'a>(value: &Item<'a>, key: &Item<'a>) -> Result<Item<'a>, String> {
    let fields = match value {
        Item::Labels(labels) => *labels,
        Item::Data(data) => match &**data {
            Value::Array(items) => return element(items, key),
            Value::Object(fields) => fields,
            _ => return Err("only lists and maps have an index".to_owned()),
        },
        _ => return Err("only lists and maps have an index".to_owned()),
    };
    let key = key.as_str().ok_or("a map's index is a text")?;
    // Go gives a map's zero value, which for a map of texts is an empty one.
    let texts = fields.values().all(Value::is_string);
    Ok(match fields.get(key) {
        Some(found) => Item::owned(found.clone()),
        None if texts => Item::Text(String::new()),
        None => Item::Missing,
    })
}

fn element<'a>(items: &[Value], key: &Item<'_>) -> Result<Item<'a>, String> {
    let position = key.as_integer().ok_or("a list's index is a number")?;
    let found = usize::try_from(position).ok().and_then(|it| items.get(it));
    found
        .cloned()
        .map(Item::owned)
        .ok_or_else(|| format!("index {position} is out of a list of {}", items.len()))
}

/// A part of a text, in characters, or of a list.
fn slice<'a>(value: &Item<'a>, bounds: &[Item<'_>]) -> Result<Item<'a>, String> {
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(bound) => bound
            .as_integer()
            .and_then(|it| usize::try_from(it).ok())
            .ok_or("a bound of slice is a number from 0"),
    };
    let list = match value {
        Item::Data(data) => data.as_array(),
        _ => None,
    };
    let length = match (value.as_str(), list) {
        (Some(text), _) => text.chars().count(),
        (_, Some(items)) => items.len(),
        _ => return Err("only texts and lists can be sliced".to_owned()),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to || to > length {
        return Err(format!(
            "there is no {from} to {to} in a length of {length}"
        ));
    }
    Ok(match (value.as_str(), list) {
        (Some(text), _) => value.with_text(text.chars().skip(from).take(to - from).collect()),
        (_, items) => Item::owned(
            items
                .map(|items| items[from..to].to_vec())
                .unwrap_or_default(),
        ),
    })
}

fn join<'a>(list: &Item<'_>, separator: &Item<'_>) -> Result<Item<'a>, String> {
    let separator = separator.as_str().ok_or("join's separator is a text")?;
    let items = match list {
        Item::Data(data) => match &**data {
            Value::Array(items) => &items[..],
            Value::Null => &[],
            _ => return Err("join wants a list".to_owned()),
        },
        _ => return Err("join wants a list".to_owned()),
    };
    let shown: Vec<String> = items
        .iter()
        .map(|item| Item::borrowed(item).shown())
        .collect();
    Ok(Item::Text(shown.join(separator)))
}

fn split<'a>(value: &Item<'_>, separator: &Item<'_>) -> Result<Item<'a>, String> {
    let text = value.as_str().ok_or("split wants a text")?;
    let separator = separator.as_str().ok_or("split's separator is a text")?;
    let parts: Vec<Value> = match separator {
        "" => text.chars().map(|c| Value::from(c.to_string())).collect(),
        _ => text.split(separator).map(Value::from).collect(),
    };
    Ok(Item::owned(parts))
}

fn change<'a>(value: &Item<'a>, how: impl Fn(&str) -> String) -> Result<Item<'a>, String> {
    let text = value.as_str().ok_or("this works on texts only")?;
    Ok(value.with_text(how(text)))
}

/// The first letter of every word as a capital.
fn title(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .flat_map(|character| {
            let starts = character.is_alphabetic() && !inside;
            inside = character.is_alphanumeric() || matches!(character, '_' | '\'');
            let upper = starts.then(|| character.to_uppercase());
            let plain = (!starts).then_some(character);
            upper.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn pad<'a>(value: &Item<'a>, before: &Item<'_>, after: &Item<'_>) -> Result<Item<'a>, String> {
    let text = value.as_str().ok_or("pad wants a text")?;
    let spaces = |item: &Item<'_>| {
        let count = item
            .as_integer()
            .filter(|it| (0..=MOST_SPACES).contains(it));
        let count = count.and_then(|it| usize::try_from(it).ok());
        count
            .map(|it| " ".repeat(it))
            .ok_or(format!("pad takes 0 to {MOST_SPACES} spaces"))
    };
    let (before, after) = (spaces(before)?, spaces(after)?);
    Ok(match text {
        "" => Item::Text(String::new()),
        _ => value.with_text(format!("{before}{text}{after}")),
    })
}

fn truncate<'a>(value: &Item<'a>, length: &Item<'_>) -> Result<Item<'a>, String> {
    let text = value.as_str().ok_or("truncate wants a text")?;
    let length = length.as_integer().and_then(|it| usize::try_from(it).ok());
    let length = length.ok_or("truncate's length is a number from 0")?;
    Ok(value.with_text(text.chars().take(length).collect()))
}

/// With a space between two that are no texts, as Go's `Sprint`.
fn print(values: &[Item<'_>]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let before = index.checked_sub(1).map(|it| &values[it]);
        if before.is_some_and(|it| it.as_str().is_none()) && value.as_str().is_none() {
            out.push(' ');
        }
        out.push_str(&value.shown());
    }
    out
}

fn equals_any<'a>(first: &Item<'_>, others: &[Item<'_>]) -> Result<Item<'a>, String> {
    for other in others {
        if equals(first, other)? {
            return Ok(Item::owned(true));
        }
    }
    Ok(Item::owned(false))
}

fn equals(a: &Item<'_>, b: &Item<'_>) -> Result<bool, String> {
    a.equals(b)
        .ok_or_else(|| format!("cannot compare {} with {}", kind(a), kind(b)))
}

fn compare<'a>(
    a: &Item<'_>,
    b: &Item<'_>,
    wanted: fn(Ordering) -> bool,
) -> Result<Item<'a>, String> {
    a.compare(b)
        .map(|ordering| Item::owned(wanted(ordering)))
        .ok_or_else(|| format!("cannot compare {} with {}", kind(a), kind(b)))
}

fn kind(item: &Item<'_>) -> &'static str {
    match item {
        Item::Missing => "nothing",
        Item::Text(_) => "a text",
        Item::Labels(_) => "a map",
        Item::Data(value) => match &**value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        },
    }
}
