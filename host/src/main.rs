//! The `isolazi` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    isolazi::main()
}
