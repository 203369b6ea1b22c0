//! The command line, strictly.

use crate::say::Failure;

/// How distributions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Verbose,
    Names { running: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    List {
        form: Form,
    },
    Import {
        name: String,
        folder: String,
        tar: String,
        version: u32,
    },
    Terminate(String),
    Unregister(String),
    Shutdown,
    Status,
    Version,
    Exec {
        name: String,
        user: String,
        program: Vec<String>,
    },
}

pub(crate) fn parse(words: &[String]) -> Result<Command, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::NoDefault);
    };
    match *first {
        "--list" | "-l" => list(rest),
        "--import" => import(rest),
        "--terminate" | "-t" => Ok(Command::Terminate(only(first, rest)?)),
        "--unregister" => Ok(Command::Unregister(only(first, rest)?)),
        "--shutdown" => none(rest, Command::Shutdown),
        "--status" => none(rest, Command::Status),
        "--version" | "-v" => none(rest, Command::Version),
        _ => exec(&words),
    }
}

fn none(rest: &[&str], command: Command) -> Result<Command, Failure> {
    match rest {
        [] => Ok(command),
        [other, ..] => Err(Failure::Option((*other).to_owned())),
    }
}

fn only(option: &str, rest: &[&str]) -> Result<String, Failure> {
    match rest {
        [name] if !name.starts_with('-') => Ok((*name).to_owned()),
        [_, other, ..] => Err(Failure::Option((*other).to_owned())),
        _ => Err(Failure::Option(option.to_owned())),
    }
}

fn list(rest: &[&str]) -> Result<Command, Failure> {
    let (mut verbose, mut quiet, mut running) = (false, false, false);
    for word in rest {
        match *word {
            "--verbose" | "-v" => verbose = true,
            "--quiet" | "-q" => quiet = true,
            "--running" => running = true,
            other => return Err(Failure::Option(other.to_owned())),
        }
    }
    let form = match (verbose, quiet) {
        (true, false) if !running => Form::Verbose,
        (false, true) => Form::Names { running },
        // Other forms are for people.
        _ => return Err(Failure::Option("--list".to_owned())),
    };
    Ok(Command::List { form })
}

fn import(rest: &[&str]) -> Result<Command, Failure> {
    let [name, folder, tar, options @ ..] = rest else {
        return Err(Failure::Option("--import".to_owned()));
    };
    let version = match options {
        [] => 2,
        ["--version", number @ ("1" | "2")] => u32::from(*number == "2") + 1,
        [other, ..] => return Err(Failure::Option((*other).to_owned())),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(Failure::Argument);
    }
    Ok(Command::Import {
        name: (*name).to_owned(),
        folder: (*folder).to_owned(),
        tar: (*tar).to_owned(),
        version,
    })
}

fn exec(words: &[&str]) -> Result<Command, Failure> {
    let (mut name, mut user) = (None, None);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || {
            let value = rest.next().filter(|value| !value.starts_with('-'));
            value.ok_or_else(|| Failure::Option((*word).to_owned()))
        };
        match *word {
            "-d" | "--distribution" => name = Some((*value()?).to_owned()),
            "-u" | "--user" => user = Some((*value()?).to_owned()),
            "-e" | "--exec" => {
                let program: Vec<String> = rest.map(|it| (*it).to_owned()).collect();
                if program.is_empty() {
                    return Err(Failure::Option((*word).to_owned()));
                }
                return Ok(Command::Exec {
                    name: name.ok_or(Failure::NoDefault)?,
                    user: user.unwrap_or_else(|| "root".to_owned()),
                    program,
                });
            }
            other => return Err(Failure::Option(other.to_owned())),
        }
    }
    // A shell, which none of our distributions has.
    Err(Failure::Argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn what_is_documented_is_understood() {
        assert_eq!(
            parsed("-d isolazi -u root --exec /isolazi-agent wsl-hold --x"),
            Ok(Command::Exec {
                name: "isolazi".to_owned(),
                user: "root".to_owned(),
                program: ["/isolazi-agent", "wsl-hold", "--x"]
                    .map(str::to_owned)
                    .into(),
            })
        );
        assert_eq!(
            parsed("--list --verbose"),
            Ok(Command::List {
                form: Form::Verbose
            })
        );
        assert!(matches!(
            parsed("--import a b c --version 1"),
            Ok(Command::Import { version: 1, .. })
        ));
        assert_eq!(
            parsed("--terminate a"),
            Ok(Command::Terminate("a".to_owned()))
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "",
            "--lists",
            "--list --verbose --colour",
            "--import a b",
            "--import a b c --version",
            "--import a b c --version 3",
            "--import a/b b c",
            "--terminate",
            "--terminate a b",
            "--shutdown now",
            "-d",
            "-d a",
            "-d a -u root --exec",
            "-d a --user --exec /x",
            "--exec /x",
            "-d a --execute /x",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
