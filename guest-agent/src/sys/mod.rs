//! Thin, typed wrappers of system calls; knows no domain type.
