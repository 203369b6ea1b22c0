//! Errors as they cross the wire: a code a program can act on, and one line for a person.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong, as the other side may need to react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request itself makes no sense; sending it again changes nothing.
    InvalidArgument,
    /// No container, image or layer of that name.
    NotFound,
    /// The name is taken, or the container is in a state that forbids the request.
    Conflict,
    /// Layers that the request needs are not unpacked on the agent's side.
    LayersMissing,
    /// A layer's content is not what its digest says, or is malformed.
    BadLayer,
    /// The peer speaks another [`crate::GENERATION`].
    Generation,
    /// The peer did not present the token given to the guest at boot.
    Unauthenticated,
    /// The agent lacks a privilege it needs.
    Permission,
    /// No space is left where images or containers are kept.
    StorageFull,
    /// The container's command was found but cannot be executed (exit code 126).
    NotExecutable,
    /// The container's command was not found (exit code 127).
    CommandNotFound,
    /// The kernel or machine lacks something the request needs.
    Unsupported,
    /// Anything else.
    Internal,
}

/// An error and its causes, as one line for a person.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// A failed request. `message` is one line: what failed, which thing, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl WireError {
    /// An error with a code and its one-line message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
