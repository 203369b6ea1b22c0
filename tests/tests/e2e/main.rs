//! isolazi from end to end: the real program, a real registry, real images, in
//! both modes. `cargo test -p isolazi-tests --test e2e -- native::` runs one.

mod cases;

use std::process::ExitCode;

use isolazi_tests::{Suite, fixture, network};

fn main() -> ExitCode {
    if let Err(error) = fixture::fetch() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    // Before there is any other thread, as each has a network of its own.
    if let Err(error) = network::leave_the_machines() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    Suite::new(cases::all()).main()
}
