//! How an event is written: Docker's line, or what `--format` asks for.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use chrono::{DateTime, Local};
use isolazi_protocol::{Happening, ObjectKind};
use serde_json::{Value, json};

use crate::output::{self, Template};

/// The form of all lines.
pub(super) enum Form {
    Line,
    /// As the Engine API has it.
    Json(Template),
    Template(Template),
}

impl Form {
    pub(super) fn new(format: Option<&str>) -> Result<Self> {
        Ok(match format.map(str::trim) {
            None | Some("") => Self::Line,
            Some(json @ ("json" | "{{json .}}")) => Self::Json(Template::parse(json)?),
            Some(other) => Self::Template(Template::parse(other)?),
        })
    }

    pub(super) fn line(&self, happening: &Happening) -> Result<String> {
        Ok(match self {
            Self::Line => line(happening),
            Self::Json(template) => template.line(&message(happening))?,
            Self::Template(template) => template.line(&fields(happening))?,
        })
    }
}

/// `2026-01-02T15:04:05.000000000Z container start ID (image=…, name=…)`.
fn line(happening: &Happening) -> String {
    let time = DateTime::<Local>::from(UNIX_EPOCH + Duration::from_nanos(happening.time));
    let time = time.format("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string();
    let time = match time.strip_suffix("+00:00") {
        Some(time) => format!("{time}Z"),
        None => time,
    };
    let attributes = happening.attributes.iter();
    let attributes: Vec<_> = attributes
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let attributes = match attributes.as_slice() {
        [] => String::new(),
        all => format!(" ({})", all.join(", ")),
    };
    let (kind, action, id) = (happening.kind.name(), &happening.action, &happening.id);
    output::printable(&format!("{time} {kind} {action} {id}{attributes}"))
}

/// The Engine API's message; what is about containers or images has some of it
/// twice, as it had before there were others.
fn message(happening: &Happening) -> Value {
    let mut message = json!({
        "Type": happening.kind.name(),
        "Action": happening.action,
        "Actor": { "ID": happening.id, "Attributes": happening.attributes },
        "scope": "local",
        "time": happening.time / 1_000_000_000,
        "timeNano": happening.time,
    });
    if happening.kind != ObjectKind::Volume {
        message["status"] = happening.action.as_str().into();
        message["id"] = happening.id.as_str().into();
    }
    if let Some(image) = happening.attributes.get("image") {
        message["from"] = image.as_str().into();
    }
    message
}

/// The same for templates, where Docker's names start with a capital.
fn fields(happening: &Happening) -> Value {
    let mut fields = message(happening);
    for (name, key) in [
        ("ID", "id"),
        ("Status", "status"),
        ("From", "from"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ] {
        let value = match fields.get(key) {
            Some(value) => value.clone(),
            None => "".into(),
        };
        fields[name] = value;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening() -> Happening {
        Happening {
            time: 1_700_000_000_000_000_005,
            kind: ObjectKind::Container,
            action: "exec_start: echo \u{1b}".to_owned(),
            id: "abc".to_owned(),
            attributes: [("image", "alpine"), ("name", "web")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn a_line_is_dockers_and_cannot_pose_as_another() {
        let line = line(&happening());
        let (time, rest) = line.split_once(' ').unwrap();
        let time = DateTime::parse_from_rfc3339(time).unwrap();
        assert_eq!(time.timestamp_nanos_opt(), Some(1_700_000_000_000_000_005));
        assert_eq!(
            rest,
            "container exec_start: echo \\u{1b} abc (image=alpine, name=web)"
        );
    }

    #[test]
    fn json_is_the_engine_apis() {
        let form = Form::new(Some("json")).unwrap();
        let line: Value = serde_json::from_str(&form.line(&happening()).unwrap()).unwrap();
        assert_eq!(line["Actor"]["Attributes"]["name"], "web");
        assert_eq!(
            (&line["id"], &line["from"]),
            (&json!("abc"), &json!("alpine"))
        );
        assert_eq!(line["time"], 1_700_000_000);
        assert_eq!(line.get("ID"), None);
        let volume = Happening {
            kind: ObjectKind::Volume,
            attributes: Default::default(),
            ..happening()
        };
        let line: Value = serde_json::from_str(&form.line(&volume).unwrap()).unwrap();
        assert_eq!(line.get("status"), None);
    }

    #[test]
    fn templates_have_dockers_fields() {
        let form = "{{.Type}} {{.ID}} {{.From}} {{.Time}} {{.Actor.Attributes.name}}";
        let form = Form::new(Some(form)).unwrap();
        let line = form.line(&happening()).unwrap();
        assert_eq!(line, "container abc alpine 1700000000 web");
        assert!(Form::new(Some("{{")).is_err());
    }
}
