//! Builds the appliance that isolazi boots: a kernel, an initramfs with the
//! agent in it, a template of the data disk, helper programs, and a manifest.
//!
//! ```text
//!  kernel-config/ ──► kernel ─────┐
//!  guest-agent/ ────► initramfs ──┤  every piece is cached      one folder,
//!  mke2fs ──────────► data disk ──┼─ under a hash of what  ───► exchanged as
//!  crates.io ───────► helpers ────┘  it is made of              a whole
//! ```
//!
//! [`build()`] makes what is missing, so that a second
//! run with nothing changed does little more than compare hashes. [`bundle()`] puts
//! the folder behind a program, as one file to install.

#![forbid(unsafe_code)]

mod agent;
mod arch;
mod build;
mod bundle;
mod cache;
mod command;
pub mod cpio;
mod disk;
mod error;
mod files;
mod helpers;
mod hypervisor;
mod initramfs;
mod kernel;
mod key;
mod output;
mod progress;
mod tools;

pub use arch::{Arch, UnknownArch};
pub use build::{Built, Options, build, default_output};
pub use bundle::{BundleOptions, Front, bundle};
pub use error::{BuildError, BundleError};
pub use hypervisor::ensure_hypervisor;
pub use progress::Progress;
