//! `--filter KEY=VALUE`, as the listings have it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// The filters that were given, their keys known to be fine.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Takes filters whose keys are among `keys`.
    pub(super) fn parse(given: &[String], keys: &[&str]) -> Result<Self> {
        let pairs = given.iter().map(|filter| match filter.split_once('=') {
            Some((key, value)) if keys.contains(&key.trim()) => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            Some((key, _)) => bail!(
                "there is no filter '{}'; use one of {}",
                key.trim(),
                keys.join(", ")
            ),
            None => bail!("filter '{filter}' is not KEY=VALUE, such as {}=…", keys[0]),
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    /// The values that were given for a key.
    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(known, _)| known == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// Whether there is a filter of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// Whether one of the key's values fits, or there is none.
    pub(super) fn any(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(fits)
    }

    /// Whether the labels are all there that `label=KEY` and `label=KEY=VALUE`
    /// ask for.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|it| it == value),
                None => labels.contains_key(wanted),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(given: &[&str]) -> Result<Filters> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        Filters::parse(&given, &["name", "label"])
    }

    #[test]
    fn values_of_one_key_are_alternatives() {
        let both = filters(&["name=a", "name = b=c"]).unwrap();
        assert!(both.any("name", |value| value == "a"));
        assert!(both.any("name", |value| value == "b=c"));
        assert!(!both.any("name", |value| value == "d"));
        assert!(both.any("other", |_| false), "what is not given fits");
    }

    #[test]
    fn all_labels_have_to_be_there() {
        let labels = [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "".to_owned()),
        ]
        .into();
        for (given, fits) in [
            (&["label=a"][..], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label=b="], true),
        ] {
            assert_eq!(filters(given).unwrap().labels(&labels), fits, "{given:?}");
        }
    }

    #[test]
    fn a_mistake_names_the_filter() {
        for (given, said) in [
            ("nome=x", "no filter 'nome'; use one of name, label"),
            ("name", "filter 'name' is not KEY=VALUE"),
        ] {
            let error = filters(&[given]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
