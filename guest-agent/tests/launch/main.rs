//! Starts real containers, as root, of a busybox on one layer.
//!
//! A launcher must be single-threaded (it forks), and the ordinary test
//! harness is not: this one runs its cases one after the other in `main`.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests, which clippy cannot tell without the ordinary harness"
)]

mod container;
mod harness;

mod files;
mod further;
mod hostile;
mod identity;
mod outcome;
mod streams;

fn main() -> std::process::ExitCode {
    let groups = [
        outcome::CASES,
        identity::CASES,
        files::CASES,
        streams::CASES,
        further::CASES,
        hostile::CASES,
    ];
    harness::run(&groups.concat())
}
