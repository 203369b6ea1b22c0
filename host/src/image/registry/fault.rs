//! What a failed request means to a user.

use std::error::Error;
use std::io;

use oci_client::errors::{OciEnvelope, OciErrorCode};

use super::super::error::{ImageError, Reason};
use super::super::text::escape;

/// Marks a redirect that [`super::redirects`] did not follow.
#[derive(Debug, thiserror::Error)]
#[error("unsafe redirect to {0}")]
pub(super) struct UnsafeRedirect(pub(super) String);

/// Kinds of failed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Resolve,
    Connect,
    Tls,
    Broken,
}

/// A failed request.
#[derive(Debug)]
pub(super) enum Fault {
    Redirect(String),
    Network(NetworkFault),
}

#[derive(Debug)]
pub(super) struct NetworkFault {
    kind: Kind,
    reason: String,
}

impl Fault {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if let Some(redirect) = chain(error).find_map(|it| it.downcast_ref::<UnsafeRedirect>()) {
            return Self::Redirect(redirect.0.clone());
        }
        Self::Network(NetworkFault {
            kind: kind(error),
            reason: escape(&innermost(error)),
        })
    }

    /// The error for requests to `registry`.
    pub(super) fn into_error(self, registry: &str) -> ImageError {
        let registry = registry.to_owned();
        let fault = match self {
            Self::Redirect(target) => return ImageError::Redirect { registry, target },
            Self::Network(fault) => fault,
        };
        let source = Reason(fault.reason);
        match fault.kind {
            Kind::Resolve => ImageError::RegistryUnknown { registry, source },
            Kind::Connect => ImageError::Unreachable { registry, source },
            Kind::Tls => ImageError::Tls { registry, source },
            Kind::Broken => ImageError::Broken { registry, source },
        }
    }
}

fn kind(error: &reqwest::Error) -> Kind {
    if chain(error).any(is_tls) {
        return Kind::Tls;
    }
    // hyper-util keeps the type of this one to itself.
    if chain(error).any(|it| it.to_string() == "dns error") {
        return Kind::Resolve;
    }
    match error.is_connect() {
        true => Kind::Connect,
        false => Kind::Broken,
    }
}

/// rustls' errors travel inside I/O errors, or inside I/O errors within those;
/// `source` passes over what an I/O error holds.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let held = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    held.is_some_and(|held| is_tls(held))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Whether an error page says that the whole repository is unknown.
pub(super) fn is_name_unknown(page: &[u8]) -> bool {
    serde_json::from_slice::<OciEnvelope>(page).is_ok_and(|envelope| {
        envelope
            .errors
            .iter()
            .any(|error| error.code == OciErrorCode::NameUnknown)
    })
}
