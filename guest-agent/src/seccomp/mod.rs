//! System-call filters.
//!
//! ```text
//!  name ─► builtin ──┐
//!                    ├─► document ─► resolve ─► compile ─► a program (launch)
//!  file ─► JSON ─────┘   as Docker's   answers by       └► JSON again (`seccomp show`)
//!                                      number, for this
//!                                      machine and these
//!                                      capabilities
//! ```
//!
//! There is one program a profile. It has every architecture that the profile
//! lets in, and kills what calls through another one, x32 included.

mod builtin;
mod calls;
mod compile;
mod document;
mod granted;
mod resolve;
mod table;

use std::borrow::Cow;

use isolazi_protocol::{MAX_PROFILE_BYTES, SeccompProfile};

use crate::launch::plan::SeccompProgram;
use document::Document;
pub use granted::Granted;

/// Why there is no program for a profile.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Larger than anybody's.
    #[error("it has {0} bytes, and may have {MAX_PROFILE_BYTES}")]
    TooLarge(usize),
    /// Not JSON, or not of a profile's form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value that makes no sense.
    #[error("{place}: {why}")]
    Invalid {
        /// Where in the document.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The kernel would not take it.
    #[error(
        "it comes to {needed} instructions, and the kernel takes {most}; leave some conditions out"
    )]
    TooLong {
        /// Instructions of the program.
        needed: usize,
        /// The kernel's limit.
        most: usize,
    },
    /// Nothing to show.
    #[error("a disabled profile has no rules")]
    Disabled,
}

/// The programs that a container with these privileges gets, in the order of
/// their installation.
pub fn programs(
    profile: &SeccompProfile,
    granted: &Granted,
) -> Result<Vec<SeccompProgram>, SeccompError> {
    match document(profile)? {
        None => Ok(Vec::new()),
        Some(document) => {
            let resolved = resolve::resolve(&document, granted)?;
            Ok(vec![compile::program(&resolved)?])
        }
    }
}

/// What a profile comes to here, as JSON that is a profile again.
pub fn show(profile: &SeccompProfile, granted: &Granted) -> Result<String, SeccompError> {
    let document = document(profile)?.ok_or(SeccompError::Disabled)?;
    let resolved = resolve::resolve(&document, granted)?;
    // What cannot be installed is better not shown as if it could.
    compile::program(&resolved)?;
    Ok(serde_json::to_string(&resolved.shown(&document))?)
}

/// The programs of the `default` profile for a container without any option.
pub fn default_profile() -> Result<Vec<SeccompProgram>, SeccompError> {
    let granted = Granted::here(crate::launch::plan::DEFAULT_CAPABILITIES);
    programs(&SeccompProfile::Default, &granted)
}

fn document(profile: &SeccompProfile) -> Result<Option<Document>, SeccompError> {
    Ok(Some(match profile {
        SeccompProfile::Default => builtin::default(),
        SeccompProfile::Minimal => builtin::minimal(),
        SeccompProfile::Strict => builtin::strict(),
        SeccompProfile::Disabled => return Ok(None),
        SeccompProfile::File { text, .. } if text.len() > MAX_PROFILE_BYTES => {
            return Err(SeccompError::TooLarge(text.len()));
        }
        SeccompProfile::File { text, .. } => serde_json::from_str(text)?,
    }))
}

/// What the profile is called in an error.
pub fn name(profile: &SeccompProfile) -> Cow<'static, str> {
    match profile {
        SeccompProfile::Default => "default".into(),
        SeccompProfile::Minimal => "minimal".into(),
        SeccompProfile::Strict => "strict".into(),
        SeccompProfile::Disabled => "disabled".into(),
        SeccompProfile::File { name, .. } => name.clone().into(),
    }
}

#[cfg(test)]
mod tests;
