//! Thin, typed wrappers of system calls; knows no domain type.

pub mod descriptor;
pub mod executable;
pub mod fs;
pub mod guest;
pub mod readiness;
