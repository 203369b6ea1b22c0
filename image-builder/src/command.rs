//! Runs a noisy program with its output in a log, whose tail becomes part of
//! the error.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// How much of a log an error repeats.
const TAIL_LINES: usize = 20;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its log could not be written.
    #[error("cannot write the log {path}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}), log in {log}:\n{tail}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// All that it said.
        log: PathBuf,
        /// The last that it said.
        tail: Tail,
    },
    /// It ended well but did not say what it was asked for.
    #[error("{program} gave no {wanted}")]
    Output {
        /// Its name.
        program: String,
        /// What was expected.
        wanted: &'static str,
    },
}

/// The last lines of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail(Vec<String>);

impl Tail {
    /// The last lines of `text`.
    pub(crate) fn of(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        Self(lines[from..].iter().map(|&line| line.to_owned()).collect())
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// A log file that several programs write to, one after the other.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    /// An empty log at `path`, whose folder is made where it is missing.
    pub(crate) fn create(path: PathBuf) -> Result<Self, CommandError> {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        match made.and_then(|()| File::create(&path)) {
            Ok(_) => Ok(Self { path }),
            Err(source) => Err(CommandError::Log { path, source }),
        }
    }

    /// Runs `command` with its output and errors appended to this log.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), CommandError> {
        let both = self.open().and_then(|out| Ok((out.try_clone()?, out)));
        let (out, err) = both.map_err(|source| CommandError::Log {
            path: self.path.clone(),
            source,
        })?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let program = name(command);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed(program, status)),
            Err(source) => Err(CommandError::Start { program, source }),
        }
    }

    fn open(&self) -> io::Result<File> {
        File::options().append(true).open(&self.path)
    }

    fn failed(&self, program: String, status: ExitStatus) -> CommandError {
        // A tail that cannot be read is shown as empty: the failure counts.
        let said = fs::read(&self.path).unwrap_or_default();
        CommandError::Failed {
            program,
            status,
            log: self.path.clone(),
            tail: Tail::of(&String::from_utf8_lossy(&said)),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Runs `command` and returns what it wrote to its standard output; its errors
/// go to `log`.
pub(crate) fn output(command: &mut Command, log: &Log) -> Result<String, CommandError> {
    let program = name(command);
    let err = log.open().map_err(|source| CommandError::Log {
        path: log.path.clone(),
        source,
    })?;
    let done = command
        .stdin(Stdio::null())
        .stderr(err)
        .output()
        .map_err(|source| CommandError::Start {
            program: program.clone(),
            source,
        })?;
    if !done.status.success() {
        return Err(log.failed(program, done.status));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(dir.path().join("deep/make.log")).unwrap();
        let script = "seq 100; echo broken >&2; exit 3";
        let error = log
            .run(Command::new("sh").args(["-c", script]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sh failed (exit status: 3)"), "{error}");
        assert!(error.ends_with("\n99\n100\nbroken"), "{error}");
        assert!(!error.contains("\n50\n"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(dir.path().join("log")).unwrap();
        let error = log.run(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start no-such-program");
    }

    #[test]
    fn output_is_kept_apart_from_errors() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(dir.path().join("log")).unwrap();
        let said = output(Command::new("sh").args(["-c", "echo a; echo b >&2"]), &log);
        assert_eq!(said.unwrap(), "a\n");
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "b\n");
    }
}
