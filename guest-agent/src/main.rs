//! `isolazi-agent`: PID 1 of the guest, and its server process.

fn main() {}
