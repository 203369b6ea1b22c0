//! Names of images, as people type them.
//!
//! ```text
//!  [registry[:port]/]repository[:tag][@sha256:digest]
//!
//!  alpine                    docker.io/library/alpine:latest
//!  me/tool:1                 docker.io/me/tool:1
//!  localhost:5000/x          localhost:5000/x:latest
//!  ghcr.io/o/r@sha256:…      itself
//! ```
//!
//! The grammar is the one of Docker and of the OCI distribution-spec ("Pulling
//! manifests"). It is parsed here rather than by oci-spec's `Reference`, whose
//! one regular expression cannot tell the user what is wrong, knows no IPv6
//! registries, and takes digests in upper case and of other algorithms.

mod grammar;

use std::fmt;
use std::str::FromStr;

use isolazi_protocol::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use grammar::host_of;
pub use grammar::is_loopback;
use grammar::{check_whole, is_host_like, is_id, parse_digest, parse_name, parse_tag, split_tag};

/// The registry of names that give none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names that give neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Repository of images without a name.
const UNNAMED: &str = "unnamed";
/// Most characters of registry and repository together.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not a reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No name at all.
    #[error("the image name is empty: write for example alpine:3.18")]
    Empty,
    /// Longer than any reference.
    #[error(
        "an image name of {0} characters is too long: at most {MAX_NAME} for registry and repository together"
    )]
    TooLong(usize),
    /// A web address in place of a name.
    #[error("image name '{0}' starts with a scheme: leave out everything up to ://")]
    Scheme(String),
    /// Upper-case letters.
    #[error("image name '{name}' must be in lower case: '{part}' is not")]
    Uppercase {
        /// The whole text.
        name: String,
        /// The part with the capital.
        part: String,
    },
    /// A part of the repository that is not one.
    #[error(
        "image name '{name}' is malformed at '{part}': parts between slashes are lower-case letters and digits, joined by '.', '_', '__' or '-'"
    )]
    Repository {
        /// The whole text.
        name: String,
        /// The part at fault; empty between two slashes.
        part: String,
    },
    /// What stands where the registry would is none.
    #[error(
        "image name '{name}' has a malformed registry '{registry}': expected HOST or HOST:PORT"
    )]
    Registry {
        /// The whole text.
        name: String,
        /// The part at fault.
        registry: String,
    },
    /// Not a tag.
    #[error(
        "image name '{name}' has a malformed tag '{tag}': expected at most {MAX_TAG} letters, digits, '_', '.' and '-', not starting with '.' or '-'"
    )]
    Tag {
        /// The whole text.
        name: String,
        /// The part at fault.
        tag: String,
    },
    /// Not a SHA-256 digest.
    #[error(
        "image name '{name}' has a malformed digest '{digest}': expected sha256: and 64 lower-case hexadecimal digits"
    )]
    Digest {
        /// The whole text.
        name: String,
        /// The part at fault.
        digest: String,
    },
    /// 64 hexadecimal digits, which is what image ids look like.
    #[error("'{0}' is an image id, not a name: write NAME@sha256:DIGITS")]
    Id(String),
}

/// The full name of an image: always a registry and a repository, and a tag or
/// a digest or both.
///
/// `Display` is the short form that people use; [`Reference::canonical`] the
/// full one. Both parse to the same reference again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user typed.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        check_whole(text)?;
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let tag = match tag {
            Some(tag) => Some(parse_tag(text, tag)?),
            None if digest.is_none() => Some(DEFAULT_TAG.to_owned()),
            None => None,
        };
        let (registry, repository) = parse_name(text, name)?;
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// Host and perhaps port, in lower case; `docker.io` for Docker's hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry, `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only beside a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, where the name pins one. It then decides; the tag
    /// is only a remark.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether both name images of one repository.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }

    /// The repository with a digest in place of tag and digest.
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// The name of an image that was given none: its digest on this computer.
    pub fn unnamed(digest: &Digest) -> Self {
        Self {
            registry: "localhost".to_owned(),
            repository: UNNAMED.to_owned(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }

    /// Whether it is one of [`Reference::unnamed`].
    pub fn is_unnamed(&self) -> bool {
        self.registry == "localhost" && self.repository == UNNAMED && self.tag.is_none()
    }

    /// The form with everything spelled out, `docker.io/library/alpine:latest`.
    pub fn canonical(&self) -> String {
        let mut text = format!("{}/{}", self.registry, self.repository);
        self.push_suffix(&mut text);
        text
    }

    /// The familiar name without tag and digest, `alpine`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix("library/") {
            // Alone, an id's digits would be taken for an id.
            Some(short) if !short.contains('/') && !is_id(short) => short.to_owned(),
            _ => self.familiar_hub_name(),
        }
    }

    /// A repository of the hub whose first part could pass for a host keeps
    /// its registry.
    fn familiar_hub_name(&self) -> String {
        let ambiguous = self
            .repository
            .split_once('/')
            .is_none_or(|(first, _)| is_host_like(first));
        match ambiguous {
            true => format!("{}/{}", self.registry, self.repository),
            false => self.repository.clone(),
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        f.pad(&text)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn canonical(text: &str) -> String {
        Reference::parse(text).unwrap().canonical()
    }

    #[test]
    fn short_names_are_completed() {
        for (typed, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.18", "docker.io/library/alpine:3.18"),
            ("me/tool", "docker.io/me/tool:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("ghcr.io/o/r:tag", "ghcr.io/o/r:tag"),
            ("GHCR.io/o/r:Tag", "ghcr.io/o/r:Tag"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/x/y/z", "127.0.0.1:5000/x/y/z:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ] {
            assert_eq!(canonical(typed), full, "{typed}");
        }
        let pinned = format!("alpine@sha256:{HEX}");
        assert_eq!(
            canonical(&pinned),
            format!("docker.io/library/alpine@sha256:{HEX}")
        );
        let both = format!("alpine:3@sha256:{HEX}");
        assert_eq!(Reference::parse(&both).unwrap().to_string(), both);
    }

    #[test]
    fn the_short_form_is_what_people_type() {
        for (typed, shown) in [
            ("docker.io/library/alpine", "alpine:latest"),
            ("docker.io/me/tool:1", "me/tool:1"),
            ("docker.io/a.b/c:1", "docker.io/a.b/c:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            (
                &format!("docker.io/library/{HEX}:1"),
                &format!("library/{HEX}:1"),
            ),
            ("ghcr.io/o/r", "ghcr.io/o/r:latest"),
        ] {
            assert_eq!(Reference::parse(typed).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn errors_name_the_part_at_fault() {
        for (typed, fragment) in [
            ("", "empty"),
            ("Alpine", "lower case"),
            ("ghcr.io/Owner/x", "'Owner' is not"),
            ("alpine:", "malformed tag ''"),
            ("alpine:.x", "malformed tag '.x'"),
            ("alpine:a b", "malformed tag 'a b'"),
            ("alpine@sha256:12", "malformed digest 'sha256:12'"),
            ("alpine@sha512:12", "malformed digest"),
            ("a//b", "malformed at ''"),
            ("/a", "malformed at ''"),
            ("a/", "malformed at ''"),
            ("a..b", "malformed at 'a..b'"),
            ("-a", "malformed at '-a'"),
            ("../etc/passwd", "malformed registry '..'"),
            ("a/../b", "malformed at '..'"),
            ("a\nb", "malformed at 'a\\nb'"),
            ("localhost:0/x", "malformed registry"),
            ("localhost:99999/x", "malformed registry"),
            ("localhost:+5/x", "malformed registry"),
            ("[::1/x", "malformed registry"),
            ("-x.com/a", "malformed registry"),
            ("https://ghcr.io/o/r", "scheme"),
            (HEX, "image id"),
            (&"a".repeat(256), "too long"),
            (&"a".repeat(4096), "too long"),
            (&format!("a:{}", "t".repeat(129)), "malformed tag"),
        ] {
            let error = Reference::parse(typed).unwrap_err().to_string();
            assert!(error.contains(fragment), "{typed}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn loopback_is_told_by_the_name_alone() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "localhost.example.com",
            "128.0.0.1",
            "example.com:127",
            "[::2]:1",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    fn any_reference() -> impl Strategy<Value = String> {
        let registry =
            "(([a-z0-9]{1,8}\\.){1,2}[A-Za-z]{2,4}|localhost|\\[::[1-9a-f]\\])(:[1-9][0-9]{0,3})?/";
        let repository = "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}";
        (
            proptest::option::of(registry),
            proptest::collection::vec(repository, 1..4),
            proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            proptest::option::of("[0-9a-f]{64}"),
        )
            .prop_map(|(registry, parts, tag, digest)| {
                let path = parts.join("/");
                let mut text = match registry {
                    Some(registry) => registry + &path,
                    // With a dot, the first part would be a registry.
                    None => path.replace('.', "_"),
                };
                if let Some(tag) = tag {
                    text += &format!(":{tag}");
                }
                if let Some(digest) = digest {
                    text += &format!("@sha256:{digest}");
                }
                text
            })
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(text in any_reference()) {
            let reference = Reference::parse(&text).unwrap();
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}|[a-z:/@.\\[\\]_-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.canonical()), Ok(reference));
            }
        }
    }
}
