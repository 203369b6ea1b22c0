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

mod config;
mod derive;
mod embedded;
mod error;
mod instruction;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod render;
mod sink;
mod store;

pub use config::ImageConfig;
pub use derive::{Derivation, DeriveError, check as check_derivation, derive};
pub use embedded::{EmbeddedError, embedded};
pub use error::{ImageError, Reason, escape, short};
pub use instruction::InstructionError;
pub use platform::{Platform, PlatformError};
pub use progress::{NoProgress, Progress, ProgressEvent};
pub use pull::{PullOptions, pull, push_layers};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError, is_loopback};
pub use registry::NetworkOptions;
pub use render::{Bars, Lines, stderr_progress};
pub use sink::{LayerSink, LayerWriter, NullSink, SinkError};
pub use store::{FreshBlob, Image, ImageStore, Layer, Listing};
