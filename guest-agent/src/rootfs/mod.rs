//! A container's root file system: layers unpacked once, stacked by overlayfs.

pub mod assemble;
pub(crate) mod copy;
pub mod layers;
mod remove;
pub mod unpack;
pub(crate) mod usage;

pub(crate) use remove::remove_at;
