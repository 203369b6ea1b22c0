//! `printf`, as far as listings have use for it.

use super::value::Item;

/// Widest field.
const MOST_COLUMNS: usize = 4096;

/// A verb, such as `%-10.3s`.
#[derive(Debug, Default)]
struct Verb {
    left: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Puts `values` into `format`; values that are left over or lacking are an error.
pub(super) fn printf(format: &str, values: &[Item<'_>]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            verb.left |= flag == '-';
            verb.zero |= flag == '0';
        }
        verb.width = number(&mut rest)?.unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            verb.precision = Some(number(&mut rest)?.unwrap_or(0));
        }
        let letter = rest.next().ok_or("printf's format ends after '%'")?;
        let value = values.next().ok_or("printf has too few values")?;
        verb.put(letter, value, &mut out)?;
    }
    match values.next() {
        None => Ok(out),
        Some(_) => Err("printf has too many values".to_owned()),
    }
}

fn number(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let value = number.unwrap_or(0) * 10 + digit as usize;
        if value > MOST_COLUMNS {
            return Err(format!(
                "printf's fields have at most {MOST_COLUMNS} columns"
            ));
        }
        number = Some(value);
    }
    Ok(number)
}

impl Verb {
    fn put(&self, letter: char, value: &Item<'_>, out: &mut String) -> Result<(), String> {
        let text = match letter {
            's' | 'v' => {
                let text = value.shown();
                match self.precision {
                    Some(precision) => text.chars().take(precision).collect(),
                    None => text,
                }
            }
            'q' => value.json(),
            'd' => value
                .as_integer()
                .ok_or("printf's %d wants a whole number")?
                .to_string(),
            'x' => format!(
                "{:x}",
                value
                    .as_integer()
                    .ok_or("printf's %x wants a whole number")?
            ),
            'f' => {
                let number = match value {
                    Item::Data(value) => value.as_f64(),
                    _ => None,
                };
                let precision = self.precision.unwrap_or(6);
                let number = number.ok_or("printf's %f wants a number")?;
                // Beyond what a number has, digits are of no use.
                format!("{number:.precision$}", precision = precision.min(64))
            }
            't' => match value {
                Item::Data(value) if value.is_boolean() => value.to_string(),
                _ => return Err("printf's %t wants a truth value".to_owned()),
            },
            other => return Err(format!("printf has no '%{other}'")),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        let number = matches!(letter, 'd' | 'x' | 'f');
        match (self.left, self.zero && number) {
            (true, _) => out.extend([text, " ".repeat(missing)]),
            (false, true) => match text.strip_prefix('-') {
                Some(digits) => out.extend(["-", &"0".repeat(missing), digits]),
                None => out.extend(["0".repeat(missing), text]),
            },
            (false, false) => out.extend([" ".repeat(missing), text]),
        }
        Ok(())
    }
}
