//! A stand-in for `wsl.exe` on Linux: the command line of the real one, and
//! distributions that are namespaces of this machine's.
//!
//! Its syntax is that of "Basic commands for WSL"
//! (learn.microsoft.com/windows/wsl/basic-commands) and of `wsl.exe --help`, as far
//! as isolazi uses it; whatever else is given is refused as the real one refuses it.
//! As old ones do, it speaks UTF-16 and does not know `WSL_UTF8`.
//!
//! ```text
//! $ISOLAZI_STAND_IN_WSL/
//! ├── <name>/location     where `--import` put the root file system
//! ├── <name>/version      1 or 2
//! ├── <name>/alive        locked by the distribution's monitor
//! ├── <name>/attached     locked, shared, by everybody who runs something in it
//! └── <name>/init         process id of its PID 1
//! ```
//!
//! As with the real one, networks are the machine's (`networkingMode=mirrored`), and
//! a distribution ends when nothing has been attached to it for some time
//! (`instanceIdleTimeout`). Unlike there, the host's folder for temporary files is
//! shown under its own name: paths of Linux are not translated.

mod arguments;
mod distribution;
mod instance;
mod say;

use std::env;
use std::process::ExitCode;

use arguments::Command;
use distribution::Store;
use say::{Failure, print};

/// Names the folder with all distributions.
const HOME: &str = "ISOLAZI_STAND_IN_WSL";
/// Has it fail as an installation does that lacks something: see [`say::fault`].
const FAULT: &str = "ISOLAZI_STAND_IN_WSL_FAULT";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    let result = match words.first().map(String::as_str) {
        Some(instance::MONITOR) => instance::monitor(&words[1..]),
        Some(instance::INIT) => instance::init(&words[1..]),
        _ => run(&words[1..]),
    };
    result.unwrap_or_else(|failure| {
        print(&failure.to_string());
        // What -1 is on Linux.
        ExitCode::from(255)
    })
}

fn run(words: &[String]) -> Result<ExitCode, Failure> {
    let command = arguments::parse(words)?;
    say::fault(&command)?;
    let store = Store::open()?;
    match command {
        Command::List { form } => print(&store.list(form)?),
        Command::Import {
            name,
            folder,
            tar,
            version,
        } => store.import(&name, &folder, &tar, version)?,
        Command::Terminate(name) => store.find(&name)?.terminate()?,
        Command::Unregister(name) => store.find(&name)?.remove()?,
        Command::Shutdown => {
            for distribution in store.all()? {
                distribution.terminate()?;
            }
        }
        Command::Status => print("Default Version: 2\n"),
        Command::Version => print("WSL version: 2.4.13.0\nKernel version: 5.15.167.4-1\n"),
        Command::Exec {
            name,
            user,
            program,
        } => return instance::run(&store.find(&name)?, &user, &program),
    }
    Ok(ExitCode::SUCCESS)
}
