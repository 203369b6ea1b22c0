//! A container's root file system: layers unpacked once, stacked by overlayfs.

pub mod layers;
pub mod unpack;
