//! Images: their names, the registries they come from, and the local store.
//!
//! ```text
//!  reference ──► registry ──► pull ──┬──► store   blobs, verified; then the name
//!  what the      HTTP, auth          │
//!  user typed                        └──► sink    the engine, which unpacks while
//!                                                 the bytes arrive
//! ```
//!
//! Everything a registry sends is hostile until its digest is checked, and
//! bounded before that. A layer's bytes pass through once: while they arrive
//! they are hashed and written by one thread and unpacked by another, but they
//! count only when the digest was right.

mod archive;
mod config;
mod credentials;
mod derive;
mod describe;
mod embedded;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod instruction;
mod json;
mod manifest;
mod platform;
mod progress;
mod publish;
mod pull;
mod reference;
mod registry;
mod remove;
mod render;
mod sink;
mod store;
mod text;

pub(crate) use archive::{Hashed, decompressed};

pub use archive::{ArchiveError, ImportOptions, Loaded, Selection, import, load, save};
pub use config::ImageConfig;
pub use credentials::{Credential, CredentialError, Credentials, Kept, registry_of};
pub use derive::{Derivation, DeriveError, check as check_derivation, derive};
pub use describe::Step;
pub use embedded::{EmbeddedError, embedded};
pub use error::{ImageError, Reason};
pub use health::{ImageHealth, described as health_described, shell_test};
pub use instruction::InstructionError;
pub use platform::{Platform, PlatformError};
pub use progress::{NoProgress, Progress, ProgressEvent};
pub use publish::{Pushed, push};
pub use pull::{PullOptions, pull, push_layers};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError, is_loopback};
#[cfg(unix)]
pub(crate) use registry::install_tls_provider;
pub use registry::{Authorities, AuthorityError, NetworkOptions, check_login};
pub use remove::{Refusal, Removal, Use, prune, removal};
pub use render::{Bars, Lines, stderr_progress};
pub use sink::{LayerSink, LayerWriter, NullSink, SinkError};
pub use store::{Alone, Found, FreshBlob, Image, ImageStore, Layer, Listing, Unused};
pub use text::{escape, short};
