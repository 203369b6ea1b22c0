//! isolazi from end to end: the real program, a real registry, real images, in
//! both modes. `cargo test -p isolazi-tests --test e2e -- native::` runs one.

mod cases;

use std::process::ExitCode;

use isolazi_tests::Suite;

fn main() -> ExitCode {
    Suite::new(cases::all()).main()
}
