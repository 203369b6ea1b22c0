//! What Go programs write into their documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Go programs write `null` for what is empty.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go programs write a set as an object with empty values. Our own form is a list.
pub(super) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Set {
        Object(BTreeMap<String, serde::de::IgnoredAny>),
        List(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Set::Object(object)) => object.into_keys().collect(),
        Some(Set::List(list)) => list,
    })
}
