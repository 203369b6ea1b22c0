//! The `isolazi` command.
fn main() {}
