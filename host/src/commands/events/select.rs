//! Which events are shown.

use anyhow::{Result, bail};
use isolazi_protocol::{Happening, ObjectKind};

use crate::commands::filter::Filters;

const KEYS: [&str; 7] = [
    "type",
    "event",
    "container",
    "image",
    "volume",
    "network",
    "label",
];
/// Docker's types of objects; some do not exist here, and nothing happens to them.
const TYPES: [&str; 10] = [
    "builder",
    "config",
    "container",
    "daemon",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "volume",
];

/// What was asked for, checked.
#[derive(Debug)]
pub(super) struct Selection(Filters);

impl Selection {
    pub(super) fn new(filters: &[String]) -> Result<Self> {
        let filters = Filters::parse(filters, &KEYS)?;
        if let Some(unknown) = filters.values("type").find(|it| !TYPES.contains(it)) {
            bail!("there is no type '{unknown}'; use container, image, volume or network");
        }
        Ok(Self(filters))
    }

    pub(super) fn fits(&self, happening: &Happening) -> bool {
        let (filters, kind) = (&self.0, happening.kind);
        let attribute = |key: &str| happening.attributes.get(key).map(String::as_str);
        let is_object = |wanted: &str| {
            !wanted.is_empty()
                && (happening.id.starts_with(wanted) || attribute("name") == Some(wanted))
        };
        filters.any("type", |name| name == kind.name())
            && filters.any("event", |event| is_event(&happening.action, event))
            && filters.any("container", |it| {
                kind == ObjectKind::Container && is_object(it)
            })
            && filters.any("volume", |it| {
                kind == ObjectKind::Volume && happening.id == it
            })
            && filters.any("network", |it| kind == ObjectKind::Network && is_object(it))
            && filters.any("image", |it| match kind {
                ObjectKind::Image => {
                    is_image(&happening.id, it) || is_image_in(attribute("name"), it)
                }
                ObjectKind::Container => is_image_in(attribute("image"), it),
                ObjectKind::Volume | ObjectKind::Network => false,
            })
            && filters.labels(&happening.attributes)
    }
}

/// `exec_start` is `exec_start: ls`, too.
fn is_event(action: &str, wanted: &str) -> bool {
    let rest = action.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn is_image_in(name: Option<&str>, wanted: &str) -> bool {
    name.is_some_and(|name| is_image(name, wanted))
}

/// A name without a tag means all of them.
fn is_image(name: &str, wanted: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('@') || (rest.starts_with(':') && !rest.contains('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(kind: ObjectKind, action: &str, id: &str) -> Happening {
        Happening {
            time: 1,
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: [
                ("image", "reg:5000/alpine:3"),
                ("name", "web"),
                ("role", "db"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        }
    }

    #[test]
    fn filters_select_as_dockers_do() {
        let start = happening(ObjectKind::Container, "start", "abcdef");
        let exec = happening(ObjectKind::Container, "exec_start: ls", "abcdef");
        let volume = happening(ObjectKind::Volume, "create", "data");
        let pull = happening(ObjectKind::Image, "pull", "alpine:3");
        for (filters, fitting) in [
            (&[][..], [true; 4]),
            (&["type=container"], [true, true, false, false]),
            (&["type=image", "type=volume"], [false, false, true, true]),
            (&["type=network"], [false; 4]),
            (&["event=exec_start"], [false, true, false, false]),
            (&["event=exec_start: ls"], [false, true, false, false]),
            (&["event=st"], [false; 4]),
            (
                &["container=abc", "event=start"],
                [true, false, false, false],
            ),
            (&["container=web"], [true, true, false, false]),
            (&["container="], [false; 4]),
            (&["volume=data"], [false, false, true, false]),
            (&["image=reg:5000/alpine"], [true, true, false, false]),
            (&["image=reg"], [false; 4]),
            (&["image=alpine"], [false, false, false, true]),
            (&["image=alpine:3"], [false, false, false, true]),
            (
                &["label=role=db", "type=volume"],
                [false, false, true, false],
            ),
            (&["label=role=x"], [false; 4]),
        ] {
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            let selection = Selection::new(&filters).unwrap();
            let found = [&start, &exec, &volume, &pull].map(|it| selection.fits(it));
            assert_eq!(found, fitting, "{filters:?}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named() {
        for (filter, said) in [
            ("colour=red", "no filter 'colour'"),
            ("type=cat", "no type 'cat'"),
        ] {
            let error = Selection::new(&[filter.to_owned()])
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
