//! `isolazi vm logs` and `isolazi vm console`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::cli::OutputArgs;
use crate::machine::{MachineLog, VirtualMachine};
use crate::output;

/// How often it is looked for more.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest line that is printed in one piece.
const LONGEST_LINE: u64 = 64 << 10;

/// Prints a log of the machine, and with `--follow` what comes, until it stops.
pub(super) async fn print(
    machine: &dyn VirtualMachine,
    which: MachineLog,
    args: &OutputArgs,
) -> Result<()> {
    let tail = tail(&args.tail)?;
    let path = machine.log(which)?;
    let mut log = Log::open(&path)?;
    for line in log.last(tail)? {
        show(&line);
    }
    match args.follow {
        true => follow(machine, log).await,
        false => Ok(()),
    }
}

/// Until the machine does not run.
async fn follow(machine: &dyn VirtualMachine, mut log: Log) -> Result<()> {
    loop {
        // Looked at first, so that the last words are printed, too.
        let runs = machine.is_running().await?;
        while let Some(line) = log.next()? {
            show(&line);
        }
        if !runs {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The guest may say anything; nothing of it reaches the terminal but text.
fn show(line: &str) {
    output::result(output::printable(line.trim_end_matches(['\r', '\n'])));
}

fn tail(text: &str) -> Result<Option<usize>> {
    match text {
        "all" => Ok(None),
        lines => lines
            .parse()
            .map(Some)
            .map_err(|_| anyhow!("'{lines}' is no number of lines: use --tail N or --tail all")),
    }
}

/// A file that grows; one that is not there is empty.
struct Log(Option<BufReader<File>>);

impl Log {
    fn open(path: &Path) -> Result<Self> {
        match File::open(path) {
            Ok(file) => Ok(Self(Some(BufReader::new(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The lines to begin with.
    fn last(&mut self, count: Option<usize>) -> Result<VecDeque<String>> {
        let mut lines = VecDeque::new();
        while let Some(line) = self.next()? {
            lines.push_back(line);
            if count.is_some_and(|count| lines.len() > count) {
                lines.pop_front();
            }
        }
        Ok(lines)
    }

    fn next(&mut self) -> Result<Option<String>> {
        let Some(reader) = &mut self.0 else {
            return Ok(None);
        };
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        match read.context("cannot read the log")? {
            0 => Ok(None),
            _ => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_printed_and_then_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(Log::open(&path).unwrap().next().unwrap().is_none());
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut log = Log::open(&path).unwrap();
        assert_eq!(log.last(Some(2)).unwrap(), ["two\n", "three\n"]);
        assert!(log.next().unwrap().is_none());
        let mut file = File::options().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, b"four\n").unwrap();
        assert_eq!(log.next().unwrap().as_deref(), Some("four\n"));
        assert_eq!(Log::open(&path).unwrap().last(None).unwrap().len(), 4);
    }

    #[test]
    fn numbers_of_lines_are_numbers() {
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("7").unwrap(), Some(7));
        assert!(tail("some").is_err());
    }
}
