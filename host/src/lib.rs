//! The host side of isolazi: command line, images, machines.

pub mod image;
pub mod machine;
pub mod paths;
