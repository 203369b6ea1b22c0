//! Which images `images` shows.

use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::cli::ImagesArgs;
use crate::commands::filter::Filters;
use crate::image::{Image, Reference};

const KEYS: [&str; 5] = ["dangling", "reference", "before", "since", "label"];

/// What was asked for, checked.
#[derive(Debug)]
pub(super) struct Selection {
    filters: Filters,
    dangling: Option<bool>,
    name: Option<String>,
}

impl Selection {
    pub(super) fn new(args: &ImagesArgs) -> Result<Self> {
        let filters = Filters::parse(&args.filter, &KEYS)?;
        let dangling = match filters.values("dangling").next() {
            None => None,
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(other) => bail!("filter 'dangling={other}' is neither true nor false"),
        };
        Ok(Self {
            filters,
            dangling,
            name: args.name.clone(),
        })
    }

    /// Those of `images` that are to be shown.
    pub(super) fn apply(&self, images: Vec<Image>) -> Result<Vec<Image>> {
        let before = self.moments("before", &images)?;
        let since = self.moments("since", &images)?;
        let fits = |image: &Image| {
            before.iter().all(|moment| image.created < *moment)
                && since.iter().all(|moment| image.created > *moment)
                && self.fits(image)
        };
        Ok(images.into_iter().filter(fits).collect())
    }

    /// When the images that a filter names were made.
    fn moments(&self, key: &str, images: &[Image]) -> Result<Vec<Option<SystemTime>>> {
        let moments = self.filters.values(key).map(|name| {
            let found = images.iter().find(|image| is_named(image, name));
            found
                .map(|image| image.created)
                .with_context(|| format!("no such image: {name}; isolazi images lists them"))
        });
        moments.collect()
    }

    fn fits(&self, image: &Image) -> bool {
        // An image that is known by its digest only has no tag to find it by.
        let dangling = image.reference.tag().is_none();
        self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.name.as_deref().is_none_or(|name| matches(image, name))
            && self
                .filters
                .any("reference", |pattern| matches(image, pattern))
            && self.filters.labels(&image.config.labels)
    }
}

/// Whether the name or the start of an id is the image's.
fn is_named(image: &Image, name: &str) -> bool {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    (!id.is_empty() && image.config_digest.hex().starts_with(id))
        || Reference::parse(name).is_ok_and(|it| it.canonical() == image.reference.canonical())
}

/// Whether a pattern such as `alp*:3.*` is the image's name, or its name and tag.
fn matches(image: &Image, pattern: &str) -> bool {
    let familiar = image.reference.familiar_name();
    let full = format!(
        "{}/{}",
        image.reference.registry(),
        image.reference.repository()
    );
    let tag = image.reference.tag();
    [familiar, full].iter().any(|name| {
        glob(pattern, name) || tag.is_some_and(|tag| glob(pattern, &format!("{name}:{tag}")))
    })
}

/// `*` is any text and `?` any character, but `/` (Go's `path.Match`, without
/// its classes of characters).
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star stood, and how far its text goes.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') if text[t] != '/' => {}
            Some(c) if *c == text[t] && *c != '?' => {}
            _ => match star {
                Some((at, reached)) if text[reached] != '/' => {
                    star = Some((at, reached + 1));
                    (p, t) = (at + 1, reached + 1);
                    continue;
                }
                _ => return false,
            },
        }
        p += 1;
        t += 1;
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isolazi_protocol::Digest;

    use super::*;
    use crate::image::ImageConfig;

    fn image(reference: &str, n: u8) -> Image {
        Image {
            reference: Reference::parse(reference).unwrap(),
            manifest_digest: Digest::from_bytes(&[n + 100; 32]),
            config_digest: Digest::from_bytes(&[n; 32]),
            platform: None,
            config: ImageConfig {
                labels: [("n".to_owned(), n.to_string())].into(),
                ..ImageConfig::default()
            },
            layers: Vec::new(),
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n.into())),
            size: 0,
        }
    }

    fn shown(filters: &[&str], name: Option<&str>) -> Result<Vec<String>> {
        let pinned = format!("x.io/a/pinned@sha256:{}", "0a".repeat(32));
        let images = vec![
            image("alpine:3.18", 1),
            image("alpine", 2),
            image("ghcr.io/owner/repo:1", 3),
            image(&pinned, 4),
        ];
        let args = ImagesArgs {
            filter: filters.iter().map(ToString::to_string).collect(),
            name: name.map(str::to_owned),
            ..ImagesArgs::default()
        };
        let selected = Selection::new(&args)?.apply(images)?;
        let ids = selected.iter().map(|it| it.config.labels["n"].clone());
        Ok(ids.collect())
    }

    #[test]
    fn filters_select_as_dockers_do() {
        for (filters, expected) in [
            (&[][..], &["1", "2", "3", "4"][..]),
            (&["dangling=true"], &["4"]),
            (&["dangling=false"], &["1", "2", "3"]),
            (&["reference=alpine"], &["1", "2"]),
            (&["reference=alp*:3.*"], &["1"]),
            (&["reference=ghcr.io/*/repo"], &["3"]),
            (&["reference=ghcr.io/*"], &[]),
            (&["reference=docker.io/library/alpine:latest"], &["2"]),
            (
                &["reference=alpine:latest", "reference=*/*/repo"],
                &["2", "3"],
            ),
            (&["before=ghcr.io/owner/repo:1"], &["1", "2"]),
            (&["since=alpine"], &["3", "4"]),
            (&["since=010101010101"], &["2", "3", "4"]),
            (&["label=n"], &["1", "2", "3", "4"]),
            (&["label=n=2"], &["2"]),
        ] {
            assert_eq!(shown(filters, None).unwrap(), expected, "{filters:?}");
        }
        assert_eq!(shown(&[], Some("alpine:3.18")).unwrap(), ["1"]);
        assert_eq!(shown(&["dangling=false"], Some("al*")).unwrap(), ["1", "2"]);
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named() {
        for (filter, said) in [
            ("dangling=maybe", "neither true nor false"),
            ("before=nothing", "no such image: nothing"),
            ("size=3", "no filter 'size'"),
        ] {
            let error = format!("{:#}", shown(&[filter], None).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn stars_stop_at_slashes() {
        for (pattern, text, fits) in [
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
