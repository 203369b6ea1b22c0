//! A container's root file system: layers unpacked once, stacked by overlayfs.

pub mod layers;
mod remove;
pub mod unpack;
pub(crate) mod usage;
