//! Images between registries, archives and the store: from a hostile registry
//! that a test writes in a few lines, and from Docker's own.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod archive;
mod collect;
mod distribution;
mod fixture;
mod hostile;
mod known;
mod publish;
mod resume;
mod server;
mod sink;
mod store;
