//! Command line of the appliance builder.
fn main() {}
