//! The tests of the program in `hello/`, which is no crate of its own.

#[path = "../hello/main.rs"]
mod hello;
