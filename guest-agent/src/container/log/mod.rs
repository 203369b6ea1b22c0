//! A container's output on disk, in the log format of the Kubernetes CRI:
//!
//! ```text
//! 2026-01-02T03:04:05.000000006Z stdout F a whole line
//! 2026-01-02T03:04:05.000000007Z stderr P the start of a line
//! ```
//!
//! `P` marks a piece that does not end its line. Bytes are kept as they are.

mod reader;
mod tail;

pub use reader::LogReader;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use isolazi_protocol::StreamId;

/// Appends to a container's log.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// The log at `path`, continued where it exists.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Self {
            file,
            buffer: Vec::new(),
        })
    }

    /// Appends what the process wrote to `stream`, in one write.
    pub fn append(&mut self, stream: StreamId, bytes: &[u8]) -> io::Result<()> {
        let stamp = humantime::format_rfc3339_nanos(SystemTime::now());
        let stream = match stream {
            StreamId::Stderr => "stderr",
            _ => "stdout",
        };
        self.buffer.clear();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, tag) = match line.strip_suffix(b"\n") {
                Some(text) => (text, 'F'),
                None => (line, 'P'),
            };
            // Writing to a Vec cannot fail.
            let _ = write!(self.buffer, "{stamp} {stream} {tag} ");
            self.buffer.extend_from_slice(text);
            self.buffer.push(b'\n');
        }
        self.file.write_all(&self.buffer)
    }
}

/// One line of a log file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written, in RFC 3339.
    pub stamp: &'a [u8],
    /// What the process wrote to.
    pub stream: StreamId,
    /// What it wrote, without its newline.
    pub text: &'a [u8],
    /// A newline followed.
    pub is_whole: bool,
}

impl<'a> Line<'a> {
    /// `None` for a line that no writer of ours made.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |&byte| byte == b' ');
        let stamp = parts.next()?;
        let stream = match parts.next()? {
            b"stdout" => StreamId::Stdout,
            b"stderr" => StreamId::Stderr,
            _ => return None,
        };
        let is_whole = match parts.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self {
            stamp,
            stream,
            text: parts.next()?,
            is_whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_comes_back_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogWriter::open(&path).unwrap();
        let pieces: [(StreamId, &[u8]); 4] = [
            (StreamId::Stdout, b"one\ntwo"),
            (StreamId::Stderr, b"\xff\0 oops\n\n"),
            (StreamId::Stdout, b" continued"),
            (StreamId::Stdout, b"\n"),
        ];
        for (stream, bytes) in pieces {
            log.append(stream, bytes).unwrap();
        }
        let file = std::fs::read(&path).unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for line in file
            .strip_suffix(b"\n")
            .unwrap()
            .split(|&byte| byte == b'\n')
        {
            let line = Line::parse(line).unwrap();
            let output = match line.stream {
                StreamId::Stdout => &mut stdout,
                _ => &mut stderr,
            };
            output.extend(line.text);
            output.extend(line.is_whole.then_some(b'\n'));
        }
        assert_eq!(stdout, b"one\ntwo continued\n");
        assert_eq!(stderr, b"\xff\0 oops\n\n");
    }
}
