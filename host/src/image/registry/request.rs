//! What is asked of a registry, in a form that can be asked again.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

/// A request to the registry, which may have to be sent again.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) target: Target<'a>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Until the answer begins, where it is not the usual.
    pub(super) patience: Option<Duration>,
}

/// Where it goes.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// Below the repository.
    Path(&'a str),
    /// `/v2/`
    Root,
    /// Where the registry said.
    Location(&'a Url),
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Self::to(method, Target::Path(path))
    }

    pub(super) fn to(method: Method, target: Target<'a>) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: None,
        }
    }
}

impl Target<'_> {
    /// Whether it is the registry itself, by scheme, host and port.
    pub(super) fn is_at(&self, base: &str) -> bool {
        match self {
            Self::Path(_) | Self::Root => true,
            Self::Location(url) => Url::parse(base).is_ok_and(|base| base.origin() == url.origin()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registry_itself_is_where_it_is() {
        let base = "https://reg.example/v2/";
        let is_at = |url: &str| Target::Location(&Url::parse(url).unwrap()).is_at(base);
        assert!(is_at("https://reg.example/v2/x/uploads/1?state=a"));
        assert!(is_at("https://reg.example:443/elsewhere"));
        for other in [
            "http://reg.example/v2/x",
            "https://reg.example:444/v2/x",
            "https://reg.example.evil.example/v2/x",
            "https://evil.example/reg.example/v2/x",
        ] {
            assert!(!is_at(other), "{other}");
        }
        assert!(Target::Root.is_at(base) && Target::Path("x").is_at(base));
    }
}
