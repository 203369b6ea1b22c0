//! A test harness without threads, with the part of libtest's command line
//! that cargo and nextest use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test and its name.
pub(crate) type Case = (&'static str, fn());

/// Names the cases of a file.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::harness::Case] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

#[derive(Default)]
struct Options {
    list: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
}

fn options() -> Options {
    let mut options = Options::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--list" => options.list = true,
            "--exact" => options.exact = true,
            "--ignored" => options.ignored = true,
            flag if flag.starts_with('-') => {}
            // The value of --format and --test-threads.
            "terse" | "pretty" => {}
            number if number.parse::<u32>().is_ok() => {}
            filter => options.filters.push(filter.to_owned()),
        }
    }
    options
}

/// Runs the cases that the command line selects.
pub(crate) fn run(cases: &[Case]) -> ExitCode {
    let options = options();
    let selected: Vec<&Case> = cases
        .iter()
        .filter(|case| selects(&options, case.0))
        .collect();
    if options.list {
        selected
            .iter()
            .for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        return if is_ci {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let failed = selected.iter().filter(|case| !passes(case)).count();
    println!("\n{} passed, {failed} failed", selected.len() - failed);
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn selects(options: &Options, name: &str) -> bool {
    let matches = |filter: &String| match options.exact {
        true => name == filter,
        false => name.contains(filter.as_str()),
    };
    !options.ignored && (options.filters.is_empty() || options.filters.iter().any(matches))
}

/// What these tests cannot do without.
fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("starting containers needs root");
    }
    if !std::path::Path::new(crate::container::BUSYBOX).exists() {
        return Some("/bin/busybox is not there: install busybox-static");
    }
    None
}

fn passes((name, case): &Case) -> bool {
    let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}
