//! Thin, typed wrappers of system calls; knows no domain type.

pub mod bpf;
pub mod caps;
pub mod channel;
pub mod descriptor;
pub mod executable;
pub mod filter;
pub mod fs;
pub mod guest;
pub mod idmap;
pub mod loopback;
pub mod mount;
pub mod process;
pub mod readiness;
pub mod tty;
pub mod xattr;
